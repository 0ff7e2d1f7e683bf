from .dry_run import Plan as Plan
from .dry_run import plan as plan
from .outcome import Outcome as Outcome
from .request import Request as Request
from .run import reproduce as reproduce
