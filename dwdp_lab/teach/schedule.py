"""The lesson on the schedule: write DWDP, with one slot, with two, across steps; and find four races."""

from __future__ import annotations

from dwdp_lab.simulate.run import run_sim
from dwdp_lab.teach import races
from dwdp_lab.teach import schedule_answers as answers
from dwdp_lab.teach.exercise import Exercise
from dwdp_lab.teach.lesson import lesson_of
from dwdp_lab.teach.prediction import Prediction, Revealed
from dwdp_lab.teach.race_exercise import race_exercise
from dwdp_lab.teach.schedule_checks import hidden_target, large, schedule_properties, show_schedule
from dwdp_lab.timeline.metrics import metrics

ONE_SLOT = Exercise(
    key="schedule.one_slot",
    number="5.1",
    title="one slot",
    difficulty=2,
    minutes=15,
    name="one_slot",
    spec="""\
Write `one_slot(rank)`: a schedule in which the experts of every layer read weights that were pulled into slot 0.
Below is what a rank with all experts would do; yours has to pull. Experts wait for their pull, and a pull must not
overwrite what experts still read. It has to be clean for several steps too.

*Correct* is a schedule without a race. It is *good* when the pull runs beside the attention of its layer: the target is
the exposed copy of the lab's own schedule with one slot.""",
    stub="""\
def one_slot(rank: RankView) -> Iterator[Op]:
    for step in rank.busy_steps:
        for layer in rank.layers:
            yield rank.attention(step, layer)
            yield rank.route(step, layer)
            yield rank.experts(step, layer)""",
    hints=(
        "Two events will do. The pull signals that the slot is full, the experts wait for it: "
        'rank.pull(step, layer, 0, waits=..., signals="pulled") and rank.experts(step, layer, waits=("pulled",), ...).',
        "The experts signal that the slot may be filled again, and the next pull waits for that. The very first pull "
        "waits for nothing: nobody has signalled yet.",
        "For the target let the pull wait for the experts of the layer before and for nothing else. Whether it stands "
        "before or after the attention of its layer in the list is all the same: that is another lane.",
    ),
    reference=answers.one_slot,
    view=show_schedule(2, 1),
    properties=schedule_properties(2, (1,)),
    targets=(hidden_target(answers.one_slot, 2, 1),),
)

TWO_SLOTS = Exercise(
    key="schedule.two_slots",
    number="5.2",
    title="two slots",
    difficulty=2,
    minutes=20,
    name="two_slots",
    spec="""\
Now there are `rank.knobs.slots` slots: two here, but let it work for one and three. While the experts of one layer read
their slot, the next layer's weights come into another. Write `two_slots(rank)` for one step
(`rank.busy_steps` has one entry).

The target is the exposed copy of the lab's own schedule with two slots. A correct schedule that does not pull ahead
misses it.""",
    stub="""\
def two_slots(rank: RankView) -> Iterator[Op]:
    for step in rank.busy_steps:
        for layer in rank.layers:
            slot = layer % rank.knobs.slots
            yield rank.attention(step, layer)
            yield rank.route(step, layer)
            yield rank.experts(step, layer, waits=(f"pulled {slot}",), signals=f"consumed {slot}", slot=slot)""",
    hints=(
        'Each slot needs a pair of events of its own: f"pulled {slot}" and f"consumed {slot}".',
        "The first pull into each slot waits for nothing: nobody has used that slot yet. Every other pull waits for "
        "the `consumed` of its own slot, and for nothing else.",
        "One way: before the first layer pull into every slot (mind models with fewer layers than slots). After the "
        "experts of a layer pull layer + slots into the slot that they have read, if there is such a layer.",
    ),
    reference=answers.two_slots,
    view=show_schedule(1, 2),
    properties=schedule_properties(1, (2, 1, 3)),
    targets=(hidden_target(answers.two_slots, 1, 2),),
)

ALL_STEPS = Exercise(
    key="schedule.all_steps",
    number="5.3",
    title="from step to step",
    difficulty=3,
    minutes=20,
    name="all_steps",
    spec="""\
One step follows the other. Nothing is known of the next step's tokens, but its first layers need the same weights as
ever, so their pulls may begin while this step still computes. Write `all_steps(rank)` for any number of steps and
slots.

The target is the exposed copy of the lab's own schedule with `cross_step`. Mind that the target's model has an odd
number of layers.""",
    stub='''\
def all_steps(rank: RankView) -> Iterator[Op]:
    """Your two_slots, for all of rank.busy_steps."""''',
    hints=(
        "A new step's first pulls overwrite slots that the last layers of the step before still read. They wait for "
        "`consumed` like all others; only the first pulls of the whole run wait for nothing.",
        "With slot = layer % slots and an odd number of layers, the last layer of a step and the first of the next "
        "share slot 0, while slot 1 stands empty.",
        "Make one list of all (step, layer) and count through it: the number-th entry takes slot number % slots, "
        "whatever its layer.",
    ),
    reference=answers.all_steps,
    view=show_schedule(3, 2),
    properties=schedule_properties(3, (2, 1, 3)),
    targets=(hidden_target(answers.all_steps, 3, 2),),
)

RACES = [
    race_exercise(
        "5.4",
        "find the race: the other slot",
        races.other_slot,
        layers=4,
        steps=1,
        difficulty=1,
        story="The author thought: the experts have just moved on from the other slot, so its event is the fresh one.",
        hints=(
            "For which slot is the pull, and for which slot's `consumed` does it wait?",
            "The pull of layer 3 fills slot 1. Who reads slot 1 before, and does the pull wait for it?",
            'Before layer 3 it is layer 1 that reads slot 1, and nothing waits for "consumed 1".',
        ),
        race=((0, 3), (0, 1)),
    ),
    race_exercise(
        "5.5",
        "find the race: consumed too early",
        races.too_early,
        layers=3,
        steps=1,
        difficulty=1,
        story="The author thought: once the router has run, all is known that the experts need, so `consumed` is "
        "signalled there. The pull waits for the right slot.",
        hints=(
            "An event says that the operation which signals it has ended. Which operation is that here?",
            "The pull of layer 2 may start when the route of layer 0 has ended. What of slot 0 is still to come then?",
            "The experts of layer 0 read slot 0 after the route of layer 0, while the pull of layer 2 fills it.",
        ),
        race=((0, 2), (0, 0)),
    ),
    race_exercise(
        "5.6",
        "find the race: a new step",
        races.new_step,
        layers=3,
        steps=2,
        difficulty=2,
        story="Within a step all is well. At the start of a step the slots are filled anew; the author thought of them "
        "as empty, since a step had always been over before the next was issued.",
        hints=(
            "Look at the first pulls of step 1. For what do they wait?",
            "The pull of layer 0, step 1 fills slot 0. Which experts of step 0 read slot 0 last?",
            "The copy lane runs the pulls one after another, so the pull of layer 0, step 1 comes after that of layer "
            "2, step 0. But nothing makes it wait for the experts that read it.",
        ),
        race=((1, 0), (0, 2)),
    ),
    race_exercise(
        "5.7",
        "find the race: the last layers",
        races.last_layer,
        layers=4,
        steps=2,
        difficulty=2,
        story="Here the first pulls of a step do wait. The author saved an event: the last layers of a step have no "
        "pull behind them, so why signal?",
        hints=(
            "A wait refers to the last signal that was issued before it. Which one is that for the pulls of step 1?",
            'The pull of layer 0, step 1 waits for "consumed 0". Which experts of step 0 were the last to signal that, '
            "and which were the last to read slot 0?",
            "Layer 0 signals, layer 2 does not. The pull waits for the wrong one.",
        ),
        race=((1, 0), (0, 2)),
    ),
]


def _three_slots() -> Revealed:
    shares = {}
    for slots in (1, 2, 3):
        found = metrics(run_sim(large(1, slots)))
        shares[slots] = found.share(found.exposed_copy_ms)
    listed = ", ".join(f"{share:.1f} % with {slots} slot{'s' * (slots > 1)}" for slots, share in shares.items())
    return Revealed(shares[3], f"Exposed copy: {listed}.")


LESSON = lesson_of(
    "schedule",
    "05_the_schedule.ipynb",
    "The schedule",
    [ONE_SLOT, TWO_SLOTS, ALL_STEPS, *RACES],
    [
        Prediction(
            "schedule.three_slots",
            "Your second slot has hidden most of the copies. What per cent of the step is exposed copy with **three** "
            "slots?",
            "%",
            0.5,
            _three_slots,
        )
    ],
)
