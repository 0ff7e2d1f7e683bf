from .page import write as write
from .page import write_tokens as write_tokens
