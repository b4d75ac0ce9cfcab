"""The names of made-up people, and the line between training and evaluation people.

A person is a first name and a last name. Which side of the line a pair falls on is a property
of its spelling alone (a stable hash), so a person met in evaluation was never trained on, on any
machine, in any run and with any seed. This module must not know facts, texts or randomness.
"""

from functools import cache
from hashlib import blake2b
from typing import Final, Literal, get_args

from memory3.errors import InvalidArgumentError

Split = Literal["train", "evaluation"]
"""The two sides of the line between people to learn from and people to be examined on."""

SPLITS: Final[tuple[Split, ...]] = get_args(Split)

EVALUATION_PERCENT: Final = 10
"""Of every hundred pairs of names, about this many belong to evaluation."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FEMALE_FIRST_NAMES: Final = _words(
    """
    Abigail Ada Adele Agnes Alba Alice Alma Amelia Amy Anna Annika Astrid Aurora Ava Bella
    Bettina Bianca Birgit Brenda Bridget Camilla Carina Carla Carmen Cecilia Celeste Celia
    Chiara Chloe Clara Claudia Cora Corinna Dagmar Daisy Dana Daniela Daphne Daria Deborah
    Delia Diana Donna Doris Edith Elaine Elena Eliza Ella Ellen Elsa Elvira Emilia Emma
    Erica Esme Estelle Esther Eva Evelyn Fatima Felicia Fiona Flora Frances Frida Gemma
    Gerda Gina Gisela Giulia Gloria Greta Gwen Hanna Harriet Hazel Heather Heidi Helena
    Hilda Holly Ida Ilona Ilse Imogen Ines Ingrid Irene Iris Irma Isabel Isla Ivana Ivy Jana
    Jane Jenny Joanna Judith Julia June Karen Karin Kate Katja Kira Klara Lara Laura Lea
    Leila Lena Leonie Lidia Lilian Linda Linnea Lisa Livia Lotte Louisa Lucia Lucy Luna
    Lydia Lynn Mabel Magda Maia Malin Maria Marina Martha Maud Maya Mia Mila Millie Mina
    Miriam Mona Monica Myra Nadia Nancy Naomi Nell Nina Noemi Nora Odette Olga Olivia Paloma
    Pamela Paula Petra Phoebe Polly Priya Rachel Ramona Regina Renata Rita Rosa Roxana Ruby
    Ruth Sabina Sally Samira Sandra Sara Selma Serena Sheila Sibyl Silvia Simone Sofia Sonja
    Stella Susan Sylvie Tamara Tania Tara Tess Thea Tilda Tina Tove Ulla Ursula Vera Verena
    Viola Vivian Wanda Wendy Wilma Xenia Yara Yasmin Yvonne Zelda Zoe Zora
    """
)

MALE_FIRST_NAMES: Final = _words(
    """
    Aaron Abel Adam Adrian Ahmed Alan Albert Aldo Alec Alfred Ali Alvin Ambrose Amir Anders
    Andre Andrew Angus Anton Archie Arne Arthur Arvid Axel Barnaby Basil Bernard Bjorn Boris
    Boyd Bram Brian Bruno Byron Caleb Callum Carl Casper Cedric Claude Colin Connor Conrad
    Cyril Damian Daniel Dario David Declan Denis Derek Dieter Dirk Donald Duncan Dylan Edgar
    Edmund Edward Edwin Elias Elliot Emil Enrico Eric Ernest Ethan Eugene Evan Fabian Felix
    Fergus Finn Floyd Frank Gareth Gavin George Gerald Gideon Glenn Guido Gunnar Gustav
    Hamish Hans Harald Harold Hassan Hector Helmut Henrik Henry Herman Horace Howard Hubert
    Hugo Ian Igor Isaac Ismael Ivan Ivor Jacob Jakub James Jan Jasper Javier Jeremy Jerome
    Jesper Joel Johan John Jonas Joseph Joshua Julian Justin Kai Karim Karl Kaspar Keith
    Kevin Klaus Knut Kurt Lars Leo Leon Levi Liam Lionel Lorenz Louis Luca Lucas Ludwig
    Magnus Manuel Marco Marcus Mario Marius Martin Mateo Max Melvin Miguel Milan Milo Morris
    Nathan Neil Niels Nigel Nils Noah Norman Olaf Oliver Omar Oscar Oswald Otto Owen Pablo
    Paul Pavel Pedro Percy Peter Philip Pierre Rafael Ralph Ramon Raoul Rene Robert Roger
    Roland Roman Ronald Rory Rowan Rufus Rupert Samuel Sander Sergei Seth Silas Simon Stefan
    Steven Stuart Sven Tariq Thomas Tobias Uwe Victor Walter Wesley Xavier Yusuf
    """
)

LAST_NAMES: Final = _words(
    """
    Abbot Acker Adair Ainsley Akers Alcott Alder Almond Alston Amsel Appleby Arden Armitage
    Arnott Ashby Ashcroft Ashdown Askew Aspen Atwood Averill Aylward Babcock Badger Bagshaw
    Baldwin Balfour Bancroft Banner Barclay Barlow Barnett Barrow Bartlett Barton Bassett
    Bayliss Beaumont Beckett Bellamy Benning Bentley Bergman Berwick Bexley Billing Birch
    Birkett Blair Blakely Blythe Bolton Bonham Booth Borden Boswell Bowden Bowyer Brackett
    Bradshaw Bramwell Branson Braxton Brennan Brewster Briggs Brink Brock Bromley Brooks
    Buckley Bullock Burdett Burgess Burke Burnham Burrows Byrne Cadwell Calder Calloway
    Cameron Campion Canfield Cantrell Carlisle Carrick Carson Cassidy Chadwick Challis
    Chandler Chapman Charlton Chatham Childs Clayton Clifford Coburn Colby Coleman Colfax
    Collier Compton Conway Copeland Corbett Corrigan Coulter Crane Crawley Crofton Crosby
    Crowther Cullen Currie Dalby Dalton Danforth Darby Dawson Deacon Delaney Dempsey Denholm
    Denton Devlin Dexter Dickens Dillon Dobson Donnelly Doyle Drayton Driscoll Drummond
    Dudley Dunbar Dunmore Durand Dwyer Eastman Eaton Edgerton Elkins Ellery Elwood Emerson
    Endicott Erskine Estes Everard Ewing Fairbank Fairfax Falconer Farnham Farrell Faulkner
    Felton Fenwick Ferguson Fielding Finch Finley Fitzroy Flanagan Fletcher Flint Forsyth
    Foster Fowler Foxton Fraser Frost Fulton Gadsby Garland Garrick Garrison Gaskell Gatsby
    Gibbons Gifford Gilmore Gladwin Glover Goddard Godwin Goodwin Gorman Graham Granger
    Grantham Graves Grayson Gresham Griffin Grimes Grover Hadley Haggard Halford Hallam
    Halsey Hamill Hampton Hancock Hanley Harcourt Hargrove Harlow Hartley Hawkins Hayward
    Healey Heaton Hendry Hewitt Higgins Hobart Hobbs Hodgson Holcomb Holden Holt Hooper
    Hopkins Horton Hubbard Hudson Hulme Huxley Ingram Irving Jardine Jarvis Jessop Jordan
    Keating Keegan Kellogg Kenyon Kerr Kershaw Kilgore Kimball Kirby Knowles Lachlan Lambert
    Langdon Langley Larkin Latham Lawson Layton Lennox Leslie Lester Lindsay Linton Lodge
    Lomax Lovell Lowry Lumley Lyndon Maddox Mallory Malone Manning Marlowe Marsden Marsh
    Maxwell Mcbride Mcbain Meadows Mercer Merrick Merton Milburn Millard Milton Moffat
    Monroe Moody Moran Morgan Morley Moss Munro Murdoch Murray Napier Nash Needham Nesbit
    Neville Newbury Newell Nixon Nolan Norris Norwood Nugent Oakley Ogden Oldham Olsen
    Ormond Orwell Osborne Osgood Paget Palmer Parkin Parrish Paxton Payne Pearson Pelham
    Perkins Perry Pierce Pomeroy Porter Preston Purcell Quigley Quill Quincy Radford Raleigh
    Ramsey Randall Rankin Ransom Rawlins Redfern Redmond Renshaw Ridley Ripley Roper Roscoe
    Ross Rowland Royce Russell Ryder Sadler Salter Sawyer Saxton Seaton Selby Sewell Seymour
    Sharpe Shelby Sheldon Skelton Slater Slocum Somers Sparrow Spencer Stanton Stark Sumner
    Swift Talbot Tanner Tate Tennant Thorne Thorpe Tilden Tilney Todd Trent Trevor Tucker
    Tuttle Tyler Upton Vance Vaughan Vickers Wade Walden Wallace Walsh Walton Ware Waring
    Warren Waverly Weaver Webb Webster Welles Weston Whalley Wharton Wickham Wilcox Wilder
    Willard Wilton Winslow Wolcott Woodley Wyatt Wyndham Yardley Yeats York
    """
)

FIRST_NAMES: Final = FEMALE_FIRST_NAMES + MALE_FIRST_NAMES

PRONOUNS: Final[dict[str, str]] = {
    **dict.fromkeys(FEMALE_FIRST_NAMES, "She"),
    **dict.fromkeys(MALE_FIRST_NAMES, "He"),
}
"""The pronoun that stands for a person, by first name, as it opens a sentence."""


def split_of(first: str, last: str) -> Split:
    """Tells whether the person of this name is for training or for evaluation.

    Args:
        first: A first name; it need not be one of ``FIRST_NAMES``.
        last: A last name.

    Returns:
        ``"evaluation"`` for about ``EVALUATION_PERCENT`` in a hundred pairs, else ``"train"``.
    """
    digest = blake2b(f"{first} {last}".encode(), digest_size=4).digest()
    is_evaluation = int.from_bytes(digest, "big") % 100 < EVALUATION_PERCENT
    return "evaluation" if is_evaluation else "train"


def check_split(split: str) -> Split:
    """Narrows a string to a split.

    Raises:
        InvalidArgumentError: ``split`` is neither ``"train"`` nor ``"evaluation"``.
    """
    for known in SPLITS:
        if split == known:
            return known
    raise InvalidArgumentError(
        f"unknown split {split!r}", field="split", remedy=f"give one of {', '.join(SPLITS)}"
    )


@cache
def num_names(split: Split) -> int:
    """Counts the pairs of names of a split, which is how many people it can tell apart."""
    check_split(split)
    return sum(split_of(first, last) == split for first in FIRST_NAMES for last in LAST_NAMES)
