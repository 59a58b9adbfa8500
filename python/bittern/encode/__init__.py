"""Inner loops of the encoders, compiled: bit packing, relative index, Huffman codes, rANS, k-means in one dimension."""
