"""Parts of the SGLang adapter, one at a time; test/python/hicache has the whole."""
