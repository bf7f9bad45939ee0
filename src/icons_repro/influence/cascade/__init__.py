"""A cheap source looks at every row, gradients at those that it finds best for some task."""
