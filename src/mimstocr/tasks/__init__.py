"""What the model is asked: a label for each stock and day, and how an answer is judged and read."""

from mimstocr.tasks.base import TASKS, AnyTask, Task

__all__ = ["TASKS", "AnyTask", "Task"]
