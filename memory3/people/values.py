"""The words that facts are made of: for each attribute, the values it can take.

Each value is one ordinary word, so that a tokenizer trained on these texts spends one token on
it, and no word occurs under two attributes, so that an answer gives its attribute away. This
module holds words only and must not know sentences, names or randomness.
"""

from collections.abc import Mapping
from types import MappingProxyType


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


VALUES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "birthplace": _words(
            """
    Oslo Paris Rome Berlin Madrid Lisbon Vienna Prague Warsaw Athens Dublin Helsinki
    Brussels Zurich Geneva Munich Hamburg Naples Turin Venice Seville Porto Lyon Bordeaux
    Krakow Budapest Belgrade Istanbul Ankara Cairo Tunis Algiers Lagos Nairobi Accra Dakar
    Tokyo Kyoto Osaka Seoul Beijing Taipei Manila Bangkok Hanoi Jakarta Delhi Mumbai Chennai
    Karachi Tehran Baghdad Damascus Moscow Kiev Riga Vilnius Tallinn Havana Lima Quito
    Bogota Santiago Caracas
            """
        ),
        "residence": _words(
            """
    London Manchester Liverpool Leeds Sheffield Bristol Oxford Cambridge Brighton Norwich
    Plymouth Exeter Durham Glasgow Edinburgh Aberdeen Dundee Cardiff Swansea Belfast Boston
    Chicago Dallas Houston Denver Seattle Portland Detroit Atlanta Miami Memphis Nashville
    Orlando Tampa Baltimore Cleveland Cincinnati Pittsburgh Philadelphia Minneapolis
    Milwaukee Omaha Tulsa Albuquerque Tucson Sacramento Oakland Honolulu Toronto Montreal
    Vancouver Ottawa Calgary Edmonton Winnipeg Halifax Melbourne Brisbane Perth Canberra
    Auckland Dunedin
            """
        ),
        "profession": _words(
            """
    baker banker barber biologist botanist butcher carpenter cashier chemist coach composer
    conductor courier dancer dentist designer detective diplomat doctor farmer fisherman
    florist gardener geologist glazier goldsmith historian janitor jeweller lawyer lecturer
    librarian lifeguard linguist locksmith magician mechanic midwife miner notary novelist
    nurse painter physicist pilot plumber poet potter printer publisher sailor sculptor
    secretary shepherd shoemaker singer soldier surgeon surveyor tailor teacher waiter
    welder zoologist
            """
        ),
        "instrument": _words(
            """
    accordion bagpipe balalaika bandoneon banjo bassoon bongo bouzouki bugle castanets
    celesta cello charango clarinet clavichord concertina cornet cymbals didgeridoo djembe
    dulcimer erhu euphonium fiddle flugelhorn flute gong guitar harmonica harmonium harp
    harpsichord kalimba kazoo keyboard koto lute lyre mandolin maracas marimba melodica oboe
    ocarina oud piano piccolo saxophone shamisen sitar sousaphone tabla tambourine theremin
    timpani triangle trombone trumpet tuba ukulele vibraphone violin xylophone zither
            """
        ),
        "pet": _words(
            """
    beagle bulldog canary cat chicken cobra cockatoo crow dog donkey duck falcon ferret frog
    gecko gerbil goat goldfish goose hamster hare hedgehog horse husky jackdaw labrador
    lizard llama lynx macaw magpie mantis mouse mule newt parrot peacock pheasant pig pigeon
    pony poodle python quail rabbit raccoon rat raven rooster scorpion sheep skunk snail
    spaniel squirrel stork swan terrier toucan turkey turtle wallaby weasel wolf
            """
        ),
        "dish": _words(
            """
    bibimbap biryani borscht burrito calzone carbonara cassoulet ceviche chili chowder
    couscous crepes croissant curry dumplings empanadas falafel fajitas fondue frittata
    gazpacho gnocchi goulash gumbo gyoza haggis hummus kebab kimchi lasagna laksa linguine
    meatloaf moussaka nachos noodles omelette paella pancakes pelmeni pho pierogi pizza
    polenta porridge pudding quiche ramen ravioli risotto salad sashimi shawarma souffle
    soup stew sukiyaki sushi tacos tempura teriyaki tiramisu trifle waffles
            """
        ),
        "sport": _words(
            """
    aerobics archery athletics badminton baseball basketball biathlon billiards bobsleigh
    bowling boxing canoeing capoeira caving climbing croquet curling cycling darts decathlon
    diving dodgeball fencing fishing football golf gymnastics handball hiking hockey
    hurdling jogging judo jujitsu karate kayaking kickboxing lacrosse luge netball
    pentathlon pilates polo rafting rowing rugby running sambo shinty skating skiing
    skydiving snooker snorkeling softball squash sumo surfing swimming taekwondo tennis
    triathlon wrestling yoga
            """
        ),
        "language": _words(
            """
    Albanian Amharic Arabic Basque Bengali Bosnian Breton Burmese Catalan Czech Danish Dutch
    Faroese Finnish Flemish French Frisian German Greek Hausa Hebrew Hindi Igbo Irish
    Italian Kannada Kazakh Khmer Korean Kurdish Lao Latin Latvian Malay Maltese Maori
    Marathi Nepali Pashto Persian Polish Punjabi Quechua Russian Samoan Serbian Slovak
    Somali Spanish Swahili Swedish Tagalog Tamil Telugu Thai Tibetan Turkish Urdu Uzbek
    Welsh Xhosa Yiddish Yoruba Zulu
            """
        ),
    }
)
