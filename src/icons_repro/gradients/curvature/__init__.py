"""K-FAC and EK-FAC: the curvature of the loss in the weights whose gradients are taken."""
