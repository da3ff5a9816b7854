"""RSA without a matrix of rows x rows: kernels with features, their moments, and intervals."""
