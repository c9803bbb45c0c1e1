"""The paper's synthetic experiments (Section 3) and its one-layer transformer (Section 4), small enough to rerun."""
