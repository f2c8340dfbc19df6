"""``python -m hub_pipeline_tests.mutation``; see `run`."""

import sys

from hub_pipeline_tests.mutation.run import main

if __name__ == "__main__":
    sys.exit(main())
