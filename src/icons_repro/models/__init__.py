"""Load a LLaVA, attach LoRA, encode images and text."""
