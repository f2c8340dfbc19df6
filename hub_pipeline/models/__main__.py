"""``python -m hub_pipeline.models lint``: the portability lint over the models that ship with the project."""

import sys

from hub_pipeline.errors import HubPipelineError
from hub_pipeline.models.lint import main

if sys.argv[1:] != ["lint"]:
    sys.exit("usage: python -m hub_pipeline.models lint")
try:
    sys.exit(main())
except HubPipelineError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(error.exit_code)
