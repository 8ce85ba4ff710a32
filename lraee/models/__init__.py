"""Vision towers as stem / blocks / head, and the class embeddings that they are compared with."""
