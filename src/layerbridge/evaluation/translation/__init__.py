"""Translation into English by a frozen seq2seq model: NLLB, M2M100 or Marian."""

from layerbridge.evaluation.translation.translator import Translator

__all__ = ["Translator"]
