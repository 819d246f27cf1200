"""The decoder of Llama, Mistral, Qwen2 and Qwen3 in few operations, on the parameters of the transformers module."""
