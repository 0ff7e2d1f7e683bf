from .accuracy import accuracy_by_language as accuracy_by_language
from .costs import accuracy_against_cost as accuracy_against_cost
from .gains import gain_by_language as gain_by_language
from .languages import layer_weights_by_language as layer_weights_by_language
from .layers import layer_weights as layer_weights
from .layers import layer_weights_by_layer as layer_weights_by_layer
from .sentence import sentence_weights as sentence_weights
from .training import layer_weights_in_training as layer_weights_in_training
