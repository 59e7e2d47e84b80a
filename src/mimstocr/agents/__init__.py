"""Reinforcement-learning baselines: agents that hold a portfolio day by day and learn from what it earns."""

from mimstocr.agents.base import AGENTS, Agent, AnyAgent
from mimstocr.agents.settings import EnvironmentSettings

__all__ = ["AGENTS", "Agent", "AnyAgent", "EnvironmentSettings"]
