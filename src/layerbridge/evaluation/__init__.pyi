from .evaluator import evaluate as evaluate
from .results import LanguageResult as LanguageResult
from .results import Prediction as Prediction
from .results import Result as Result
