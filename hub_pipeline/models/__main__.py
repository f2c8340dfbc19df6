"""``python -m hub_pipeline.models lint | docs``: the portability lint, and docs/models.md on standard output."""

import sys

from hub_pipeline.errors import HubPipelineError
from hub_pipeline.models.docs import models_page
from hub_pipeline.models.graph import catalog
from hub_pipeline.models.lint import main

if sys.argv[1:] not in (["lint"], ["docs"]):
    sys.exit("usage: python -m hub_pipeline.models lint | docs")
try:
    if sys.argv[1] == "lint":
        sys.exit(main())
    sys.stdout.write(models_page(catalog()))
except HubPipelineError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(error.exit_code)
