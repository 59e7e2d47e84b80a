"""How tasks agree on one step of the shared parameters."""

from mimstocr.balancing.base import BALANCERS, AnyBalancer, Balancer, State

__all__ = ["BALANCERS", "AnyBalancer", "Balancer", "State"]
