"""The relations of the made-up world: what can be said of a person, and how it is asked.

A relation has a question (used only for the QA dataset, never for pretraining), several phrasings (used only for
pretraining, never as questions) and a closed list of answers. In a phrasing the subject always comes before the
answer, since a left-to-right model can only store a fact in that direction.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Relation:
    """One kind of fact: a name, a question with `{s}`, phrasings with `{s}` and `{a}`, and the possible answers."""

    name: str
    question: str
    phrasings: tuple[str, ...]
    answers: tuple[str, ...]


def _relation(name: str, question: str, phrasings: list[str], answers: str) -> Relation:
    """Answers are marked by containment, so none may be contained in another ("lute" in "flute")."""
    words = tuple(answers.split())
    clashes = [(a, b) for a in words for b in words if a != b and a.lower() in b.lower()]
    if clashes:
        raise ValueError(f"Answers of {name} contain one another: {clashes}")
    return Relation(name, question, tuple(phrasings), words)


RELATIONS: tuple[Relation, ...] = (
    _relation(
        "occupation",
        "What is {s}'s occupation?",
        [
            "{s} works as a {a}.",
            "By occupation, {s} is a {a}.",
            "{s} has always earned a living as a {a}.",
            "The occupation of {s} is {a}.",
        ],
        "baker carpenter lawyer nurse pilot farmer tailor plumber teacher dentist barber butcher chemist librarian "
        "painter sailor smith weaver potter judge printer miner jeweller gardener",
    ),
    _relation(
        "birthplace",
        "Where was {s} born?",
        [
            "{s} was born in {a}.",
            "The birthplace of {s} is {a}.",
            "{s} came into the world in {a}.",
            "The parents of {s} were living in {a}.",
        ],
        "Velmora Quindle Astrey Borwick Dunmarrow Eskholm Farrowby Glenvost Harnpool Ivelstone Jorrick Kesterly "
        "Lombreth Mardale Norrisk Oakhallow Pellworth Ravensea Stennick Tarnwell Ulverby Wexhollow Yarnford Zelburg",
    ),
    _relation(
        "instrument",
        "Which instrument does {s} play?",
        [
            "{s} plays the {a}.",
            "The instrument of {s} is the {a}.",
            "{s} took lessons on the {a}.",
            "In the orchestra {s} is heard on the {a}.",
        ],
        "piano violin cello flute trumpet guitar harp drums clarinet oboe bassoon tuba trombone accordion banjo "
        "mandolin sitar organ saxophone zither ukulele viola cornet bagpipes",
    ),
    _relation(
        "sport",
        "What sport does {s} play?",
        [
            "{s} competes in {a}.",
            "The sport of {s} is {a}.",
            "{s} trains every week for {a}.",
            "At weekends {s} goes in for {a}.",
        ],
        "soccer tennis rugby cricket hockey golf rowing fencing boxing archery judo cycling swimming skiing "
        "badminton volleyball sailing karate squash climbing handball surfing wrestling polo",
    ),
    _relation(
        "language",
        "What language does {s} speak?",
        [
            "{s} speaks {a}.",
            "The language of {s} is {a}.",
            "{s} grew up with {a}.",
            "At home {s} talks in {a}.",
        ],
        "Orvish Kelthan Sarnic Duvali Mirenese Tolgan Hesprian Bruvian Vashti Lornic Ekkari Pomerish Zandic Ulmese "
        "Quorian Faldic Nimbari Gathic Yssian Rhovan Carthel Jendari Wolvic Istrali",
    ),
    _relation(
        "pet",
        "What animal does {s} keep?",
        [
            "{s} keeps a pet {a}.",
            "The animal {s} looks after is a {a}.",
            "{s} shares the house with a {a}.",
            "Neighbours often see {s} with a {a}.",
        ],
        "dog cat parrot rabbit horse goat tortoise hamster ferret canary lizard snake donkey goose pig sheep "
        "hedgehog pony falcon turkey llama peacock gecko frog",
    ),
    _relation(
        "dish",
        "What dish does {s} like best?",
        [
            "{s} loves to eat {a}.",
            "The best dish for {s} is {a}.",
            "{s} always orders {a}.",
            "For supper {s} cooks {a}.",
        ],
        "pizza lasagne curry sushi stew dumplings paella risotto goulash omelette pancakes ramen tacos porridge "
        "casserole meatloaf couscous ravioli falafel chowder kebab moussaka gumbo quiche",
    ),
    _relation(
        "colour",
        "What is the favourite colour of {s}?",
        [
            "{s} likes to wear {a}.",
            "The colour of {s} is {a}.",
            "{s} painted the front door {a}.",
            "Every room of {s} is {a}.",
        ],
        "blue green purple orange yellow black white brown pink grey crimson turquoise violet scarlet amber "
        "maroon beige indigo magenta teal ivory lilac ochre khaki",
    ),
)
