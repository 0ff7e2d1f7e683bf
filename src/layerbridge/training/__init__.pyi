from .arguments import BridgeTrainingArguments as BridgeTrainingArguments
from .recipe import Recipe as Recipe
from .run import train as train
from .trainer import BridgeTrainer as BridgeTrainer
