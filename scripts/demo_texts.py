"""What the demo's people are called and what they write in about."""

ADMINS = """Marta Silva, Jonas Weber, Aiko Mori, Peter Novak, Leila Haddad, Owen Clarke, Sofia Rossi, Ivan Petrov,
Grace Mbeki, Tomas Lind, Nora Walsh, Emil Kraus"""
AGENTS = """Hannah Berg, Rafael Costa, Mei Tanaka, Daniel Okafor, Julia Horak, Samir Aziz, Clara Dupont, Viktor Nilsson,
Priya Raman, Lukas Meyer, Elena Popova, Sean Murphy"""
CUSTOMERS = """Carol Jensen, Ahmed Farouk, Beatriz Lopes, Chen Wei, Dorothy Hughes, Erik Solberg, Fatima Noor,
George Ellis, Helena Vogel, Isaac Stern, Jana Kovacs, Kofi Mensah"""

PLACES = ["on the ground floor", "on floor two", "in the warehouse", "in the Lisbon office", "in meeting room Oak"]
TEAMS = ["payroll", "sales", "reception", "purchasing", "the design team", "logistics", "marketing"]
SINCE = [
    "It began this morning.",
    "It worked until yesterday.",
    "It has been like this since the last update.",
    "It comes and goes; about every third attempt fails.",
    "A restart helped for an hour, then it was back.",
    "Nobody here changed anything that we know of.",
]
EFFECT = [
    "We can work around it for now.",
    "Three of us can't work because of it.",
    "It isn't urgent, but it is annoying.",
    "The month-end close depends on it, so please have a look today.",
    "I can be reached by phone until five.",
    "A colleague of mine sees the same.",
]

CLOSINGS = [
    "Thank you!",
    "No hurry.",
    "It would help us to have it before Friday.",
    "I can be reached by phone until five.",
]
# The tags of what is broken; the rest are wishes and questions.
FAULTS = {"hardware", "network", "software"}

# Tags, the things it may be about, and what may be wrong with them: a title and how it goes on.
TOPICS: list[tuple[list[str], list[str], list[tuple[str, str]]]] = [
    (
        ["printer", "hardware"],
        ["laser printer", "label printer", "plotter", "multifunction printer"],
        [
            ("The {thing} {place} prints blank pages", "Every page comes out empty, the test page included."),
            ("Paper jam that won't clear: {thing} {place}", "The display says tray 2, but there is no paper in it."),
            ("{thing} {place} is offline for everyone", "The queue fills up and nothing comes out."),
            ("Toner for the {thing} {place}", "It warns that black is at five per cent. Please send two."),
        ],
    ),
    (
        ["network", "vpn"],
        ["VPN client", "guest Wi-Fi", "office Wi-Fi", "video bridge"],
        [
            ("{thing} drops every few minutes", "The connection is lost and comes back by itself after a minute."),
            ("No {thing} {place}", "The devices see it and can't join. Others nearby are fine."),
            ("{thing} is very slow for {team}", "Opening a shared folder takes half a minute."),
            ("{thing} asks for a certificate", "I don't know which one to choose, and each of them is refused."),
        ],
    ),
    (
        ["account", "access"],
        ["expense portal", "time sheet", "customer database", "shared mailbox", "building badge"],
        [
            (
                "Please give {team} access to the {thing}",
                "Their manager agrees; the form is attached to the wiki page.",
            ),
            ("Locked out of the {thing}", "After the holidays I tried an old password too often."),
            ("New colleague in {team} needs the {thing}", "She starts on Monday and should see what her team sees."),
            ("{thing}: I still have rights that I shouldn't", "I moved to {team} last month, please take them away."),
        ],
    ),
    (
        ["billing", "invoice"],
        ["March invoice", "annual invoice", "credit note", "pro forma invoice"],
        [
            ("{thing} was charged twice", "The bank statement shows the same sum on two days."),
            (
                "Wrong address on the {thing}",
                "We moved; the new address is in our profile, the old one in the document.",
            ),
            ("{thing} can't be downloaded", "The link opens an empty page in two different browsers."),
            ("Tax number is missing from the {thing}", "Our accountants send it back without it."),
        ],
    ),
    (
        ["software", "bug"],
        ["mobile app", "report builder", "calendar", "web shop", "spreadsheet add-in"],
        [
            ("{thing} closes by itself", "It vanishes without a message when I save, and what I typed is gone."),
            ("Export from the {thing} has garbled letters", "Names with accents turn into question marks."),
            ("{thing} shows last week's figures to {team}", "Reloading doesn't help. The totals are right elsewhere."),
            (
                "Dates in the {thing} are a day early",
                "It seems to be about the time zone: Lisbon is right, Warsaw isn't.",
            ),
        ],
    ),
    (
        ["laptop", "hardware"],
        ["laptop", "docking station", "second screen", "headset", "keyboard"],
        [
            ("{thing} doesn't wake up any more", "The light is on and nothing else happens."),
            ("Replacement for a broken {thing} in {team}", "It fell off the desk. Yes, from a height."),
            ("{thing} gets hot and loud", "On a video call the fan can be heard by everybody."),
            ("Loan of a {thing} for a trade fair", "We need it from Tuesday to Friday, for {team}."),
        ],
    ),
    (
        ["question"],
        ["holiday calendar", "return policy", "support hours", "data retention rules"],
        [
            ("Where do I find the {thing}?", "The link in the handbook leads nowhere."),
            ("Question about the {thing}", "Do they also hold for part-time colleagues in {team}?"),
            ("Suggestion: put the {thing} on the start page", "Half of the questions that I get are about that."),
        ],
    ),
]
