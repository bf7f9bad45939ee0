"""The paper's figures on the tiny world, and apart from them what the paper prints."""
