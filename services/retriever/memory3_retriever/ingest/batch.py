"""The documents of one request on their way into a bank, in groups of one transaction each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from memory3.errors import InternalError, Memory3Error
from memory3_retriever.bank.ledger import Change
from memory3_retriever.bank.records import Reference
from memory3_retriever.ingest.outcomes import AddedDocument

# References that go into one transaction, unless a single document has more.
GROUP = 256


class DocumentBatch:
    """Split documents, by their place in the request.

    Args:
        split: The references of each document, or why it was refused.
        replace: Whether sources lose what their documents no longer contain.

    Attributes:
        outcomes: What became of each; complete once all groups are settled.
    """

    def __init__(self, split: Sequence[list[Reference] | Memory3Error], *, replace: bool) -> None:
        self._split = split
        self._replace = replace
        self.outcomes: list[AddedDocument | Memory3Error] = [
            each if isinstance(each, Memory3Error) else InternalError("the document was left out")
            for each in split
        ]
        self._keys_by_source: dict[str, set[bytes]] = {}
        self._broken_sources: set[str] = set()
        for each in split:
            if not isinstance(each, Memory3Error):
                keys = self._keys_by_source.setdefault(each[0].source, set())
                keys.update(reference.key for reference in each)

    def references(self, place: int) -> list[Reference]:
        """The references of a document; none of one that was refused."""
        split = self._split[place]
        return [] if isinstance(split, Memory3Error) else split

    def groups(self) -> Iterator[list[int]]:
        """The places of documents that go into one transaction together."""
        group: list[int] = []
        size = 0
        for place in range(len(self._split)):
            length = len(self.references(place))
            if group and size + length > GROUP:
                yield group
                group, size = [], 0
            if length:
                group.append(place)
                size += length
        if group:
            yield group

    def without(
        self,
        group: Sequence[int],
        failures: Mapping[bytes, Memory3Error],
        refused: Mapping[int, Memory3Error],
    ) -> list[int]:
        """The documents of a group that are to be added; the others are noted as refused.

        Args:
            group: The places of the documents.
            failures: Why references cannot be added, by key; none of their documents is.
            refused: Why documents are not, by place.
        """
        whole: list[int] = []
        for place in group:
            references = self.references(place)
            error = next((failures[r.key] for r in references if r.key in failures), None)
            if place in refused:
                self.outcomes[place] = refused[place]
            elif error is None:
                whole.append(place)
            else:
                self._broken_sources.add(references[0].source)
                self.outcomes[place] = type(error)(
                    error.message,
                    field=f"documents[{place}].text",
                    remedy=error.remedy,
                    metadata=error.metadata,
                )
        return whole

    def keep_by_source(self, group: Sequence[int]) -> dict[str, set[bytes]]:
        """What the sources of a group still contain, if they are to be replaced.

        A source keeps all that any document of the request gives it. One with a refused document
        keeps everything: its old references are better than none. No source replaces nothing.
        """
        if not self._replace:
            return {}
        sources = (
            {self.references(place)[0].source for place in group} - self._broken_sources - {""}
        )
        return {source: self._keys_by_source[source] for source in sources}

    def updates(self, group: Sequence[int]) -> list[Reference]:
        """The references whose metadata are to be those of a group's documents.

        Metadata are no part of a reference's identity, so one that is there may have other ones.
        Where the group has a reference twice, the last document's are meant.
        """
        if not self._replace:
            return []
        references = (each for place in group for each in self.references(place))
        return list({each.key: each for each in references if each.source}.values())

    def settle(self, group: Sequence[int], change: Change) -> None:
        """Note what a transaction did for the documents of a group."""
        fresh, changed = set(change.added), set(change.updated)
        num_removed = dict(change.num_removed_by_source)
        for place in group:
            references = self.references(place)
            keys = tuple(reference.key for reference in references)
            added = fresh & set(keys)
            fresh -= added
            updated = (changed & set(keys)) - added
            changed -= updated
            self.outcomes[place] = AddedDocument(
                keys,
                num_added=len(added),
                num_existing=len(keys) - len(added),
                num_updated=len(updated),
                num_removed=num_removed.pop(references[0].source, 0),
            )
