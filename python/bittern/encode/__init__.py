"""Inner loops of the encoders, compiled: bit packing, relative index, Huffman codes, one-dimensional k-means."""
