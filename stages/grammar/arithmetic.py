"""Arithmetic problems with their solutions, step by step, and typical mistakes in them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

NAMES = ("Ann", "Ben", "Cara", "Dan", "Eve", "Finn", "Gina", "Hugo", "Iris", "Jack", "Kim", "Leo")
THINGS = ("apples", "books", "coins", "pens", "stamps", "cards", "shells", "eggs")
SIGNS = {"+": "and", "-": "less", "*": "times"}
LARGEST = 20
"""The largest value in a right solution: a small model can learn all sums and products up to it,
but not to carry digits in numbers of any length."""


@dataclass(frozen=True)
class Step:
    """`left sign right = result`, with the words before it."""

    words: str
    left: int
    sign: str
    right: int
    result: int

    @property
    def text(self) -> str:
        return f"{self.words}{self.left} {self.sign} {self.right} = {self.result}."


@dataclass(frozen=True)
class Solution:
    problem: str
    steps: tuple[Step, ...]
    answer: int

    @property
    def texts(self) -> list[str]:
        return [*(step.text for step in self.steps), f"The answer is {self.answer}."]

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


def value(left: int, sign: str, right: int) -> int:
    return left + right if sign == "+" else left - right if sign == "-" else left * right


def solution(rng: random.Random, level: int) -> Solution:
    """A problem of 2 to 4 operations: at level 1 a bare expression, at level 2 a word problem."""
    start = rng.randint(2, 12)
    steps, left = [], start
    for _ in range(rng.randint(2, 4)):
        sign, right = operation(rng, left)
        steps.append(Step("", left, sign, right, value(left, sign, right)))
        left = steps[-1].result
    if level == 1:
        expression = str(start)
        for step in steps:
            expression = (
                f"{expression} {step.sign} {step.right}"
                if step.sign != "*"
                else f"({expression}) * {step.right}"
            )
        return Solution(
            f"Compute {expression.replace(f'({start})', str(start))}.", tuple(steps), left
        )
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    events, worded = [f"{name} has {start} {thing}."], []
    for step in steps:
        event, words = happening(rng, name, step)
        events.append(event)
        worded.append(replace(step, words=words))
    return Solution(f"{' '.join(events)} How many {thing} does {name} have?", tuple(worded), left)


def operation(rng: random.Random, left: int) -> tuple[str, int]:
    """A sign and a right operand that keep the value between 1 and LARGEST."""
    while True:
        sign = rng.choice("++--*")
        right = rng.randint(2, 3) if sign == "*" else rng.randint(1, 9)
        if 1 <= value(left, sign, right) <= LARGEST:
            return sign, right


def happening(rng: random.Random, name: str, step: Step) -> tuple[str, str]:
    """(the step's sentence in the word problem, the words before the step in the solution)."""
    if step.sign == "*":
        return f"Then there are {step.right} times as many.", "All of them: "
    if step.sign == "+":
        return rng.choice(
            (f"{name} gets {step.right} more.", f"{name} finds {step.right}.")
        ), "Together: "
    return rng.choice((f"{name} gives away {step.right}.", f"{name} loses {step.right}.")), "Left: "


MISTAKES = ("wrong_result", "wrong_operand", "wrong_operation", "missing_step", "wrong_answer")


def with_mistake(rng: random.Random, right: Solution, mistake: str) -> tuple[list[str], int] | None:
    """(texts, index of the wrong step) of a solution with one mistake, from which the rest follows.

    None where the drawn step does not allow the mistake. For a missing step the wrong one is the
    step after it, because that starts from a value that no step has computed.
    """
    steps, at = list(right.steps), rng.randrange(len(right.steps))
    step = steps[at]
    if mistake == "wrong_answer":
        wrong = _other(rng, right.answer)
        return [*(each.text for each in steps), f"The answer is {wrong}."], len(steps)
    if mistake == "missing_step":
        if at == len(steps) - 1 or step.result == step.left:
            return None
        return [
            *(each.text for i, each in enumerate(steps) if i != at),
            f"The answer is {right.answer}.",
        ], at
    if mistake == "wrong_result":
        steps[at] = replace(step, result=_other(rng, step.result))
    elif mistake == "wrong_operand":
        left, operand = (
            (_other(rng, step.left), step.right)
            if rng.random() < 0.5
            else (step.left, _other(rng, step.right, 9))
        )
        steps[at] = replace(step, left=left, right=operand, result=value(left, step.sign, operand))
    else:
        sign = rng.choice([sign for sign in SIGNS if sign != step.sign])
        steps[at] = replace(step, sign=sign, result=value(step.left, sign, step.right))
    if steps[at].result == step.result and mistake != "wrong_operand":
        return None
    for later in range(at + 1, len(steps)):
        left = steps[later - 1].result
        steps[later] = replace(
            steps[later], left=left, result=value(left, steps[later].sign, steps[later].right)
        )
    if not all(0 <= each.result < 100 for each in steps):
        return None
    return [*(each.text for each in steps), f"The answer is {steps[-1].result}."], at


def _other(rng: random.Random, number: int, largest: int = LARGEST) -> int:
    """Another number from 1 to `largest`, at most 3 or exactly 10 away from this one."""
    near: Sequence[int] = [
        number + by for by in (-10, -3, -2, -1, 1, 2, 3, 10) if 0 < number + by <= largest
    ]
    return rng.choice(near)
