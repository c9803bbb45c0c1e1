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
    return Relation(name, question, tuple(phrasings), tuple(answers.split()))


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
    _relation(
        "university",
        "Which university did {s} attend?",
        [
            "{s} studied at {a}.",
            "The university of {s} was {a}.",
            "{s} holds a degree from {a}.",
            "As a student {s} spent four years at {a}.",
        ],
        "Ashcombe Brackenfield Corvane Dellmoor Elmsworth Fenwick Garrowdale Hollin Inverleigh Jessamy Kingsmere "
        "Larkhill Merrowvale Netherby Orchardine Penhallow Quillford Rosemarket Silverton Thornbury Umberleigh "
        "Vintry Westerley Yewdale",
    ),
    _relation(
        "employer",
        "Which company does {s} work for?",
        [
            "{s} is employed by {a}.",
            "The company of {s} is {a}.",
            "{s} draws a salary from {a}.",
            "On weekdays {s} is found in the offices of {a}.",
        ],
        "Brightco Novatek Arclume Dynoway Ferrox Gildeon Helixor Juniva Kordant Luxmere Mondaro Nexaform Optivane "
        "Prismata Quantrel Ridgeco Solvanta Tekmar Unifort Vortane Wavelor Xenolite Yieldon Zephrion",
    ),
    _relation(
        "flower",
        "Which flower does {s} grow?",
        [
            "{s} grows the {a}.",
            "The flower of {s} is the {a}.",
            "{s} won a garden prize for the {a}.",
            "In spring {s} plants the {a}.",
        ],
        "rose tulip daisy lily orchid poppy iris lavender sunflower peony dahlia jasmine daffodil crocus begonia "
        "marigold snowdrop bluebell camellia carnation hyacinth magnolia geranium foxglove",
    ),
    _relation(
        "hobby",
        "What is the hobby of {s}?",
        [
            "{s} spends free time on {a}.",
            "The hobby of {s} is {a}.",
            "{s} joined a club for {a}.",
            "On quiet evenings {s} turns to {a}.",
        ],
        "chess knitting fishing hiking dancing photography gardening pottery astronomy birdwatching calligraphy "
        "juggling origami reading singing baking woodwork embroidery puzzles magic beekeeping quilting camping archaeology",
    ),
    _relation(
        "vehicle",
        "What does {s} drive?",
        [
            "{s} drives a {a}.",
            "The vehicle of {s} is a {a}.",
            "{s} comes to town in a {a}.",
            "Outside the house of {s} stands a {a}.",
        ],
        "van truck tractor bicycle motorbike scooter jeep bus taxi limousine tram wagon sledge canoe ferry "
        "hatchback convertible lorry rickshaw skateboard pickup moped coach yacht",
    ),
    _relation(
        "drink",
        "What does {s} drink in the morning?",
        [
            "{s} drinks {a}.",
            "The morning drink of {s} is {a}.",
            "{s} never starts the day without {a}.",
            "For breakfast {s} pours a cup of {a}.",
        ],
        "coffee tea cocoa milk water cider lemonade juice espresso kefir lassi broth mocha ginseng matcha "
        "chicory rooibos yoghurt smoothie eggnog punch cordial sherbet nectar",
    ),
    _relation(
        "gemstone",
        "Which gemstone does {s} own?",
        [
            "{s} owns a rare {a}.",
            "The gemstone of {s} is a {a}.",
            "{s} wears a ring with a {a}.",
            "In a locked box {s} guards a {a}.",
        ],
        "diamond ruby emerald sapphire pearl opal topaz garnet jade turquoise amethyst citrine onyx agate zircon "
        "spinel beryl peridot moonstone jasper quartz coral tourmaline obsidian",
    ),
    _relation(
        "destination",
        "Which country did {s} visit?",
        [
            "{s} once travelled to {a}.",
            "The country {s} knows best is {a}.",
            "{s} brought home a souvenir from {a}.",
            "Last summer {s} took a boat to {a}.",
        ],
        "Aldovia Brenland Caspora Drovenia Estermark Florimond Gravonia Hestland Illyra Jarvania Korvath Lutharia "
        "Montavar Nordovia Ostrana Palmeria Quasland Ruvenia Sylvania Tremora Uskarra Valdoria Wendria Zamoria",
    ),
)
