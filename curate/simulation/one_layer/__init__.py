"""The paper's one-layer transformer (Section 4, Appendices A and C.1): the model, its theorems, its dynamics."""
