"""Methods compared from result files alone; the computations are in ``statistics``.

comparable   which results may be compared at all
methods      several seeds of a method are one method
effects      every method against one of them: effects, intervals, p-values
"""

from layerbridge.evaluation.comparison.comparable import averaged_languages as averaged_languages
from layerbridge.evaluation.comparison.comparable import check_comparable as check_comparable
from layerbridge.evaluation.comparison.comparable import ordered_languages as ordered_languages
from layerbridge.evaluation.comparison.effects import ALPHA as ALPHA
from layerbridge.evaluation.comparison.effects import AverageEffect as AverageEffect
from layerbridge.evaluation.comparison.effects import Comparison as Comparison
from layerbridge.evaluation.comparison.effects import LanguageEffect as LanguageEffect
from layerbridge.evaluation.comparison.effects import Mark as Mark
from layerbridge.evaluation.comparison.effects import compare as compare
from layerbridge.evaluation.comparison.methods import Method as Method
from layerbridge.evaluation.comparison.methods import methods as methods
from layerbridge.evaluation.comparison.methods import repeated_seed as repeated_seed
