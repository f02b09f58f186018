"""The one index of texts: the nearest ones, ties, empty collections."""

from __future__ import annotations

import numpy as np
import pytest

from selfreg._util.text_index import TextIndex, Tfidf, Vectors, WordGroups

TEXTS = ["the red door", "the green door", "an open meadow", "the red door", ""]


def vectors(kind: str) -> Vectors:
    if kind == "groups":
        return WordGroups(2**12)
    text = pytest.importorskip("sklearn.feature_extraction.text")
    return Tfidf(text.TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32))


@pytest.mark.parametrize("kind", ["groups", "tfidf"])
def test_the_nearest_are_those_of_the_cosine(kind: str) -> None:
    index = TextIndex.of(TEXTS, vectors(kind))
    rows = index.rows.toarray().astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1), 1e-12)[:, None]
    for text in ("the red door", "a green door", "meadow", "fish"):
        vector = index.vectors.vector(text)
        cosine = rows @ vector / max(np.linalg.norm(vector), 1e-12)
        places, similarity = index.nearest(text, 3)
        assert places.tolist() == np.argsort(-cosine.round(5), kind="stable")[:3].tolist()
        np.testing.assert_allclose(similarity, cosine[places], atol=1e-6)


@pytest.mark.parametrize("kind", ["groups", "tfidf"])
def test_of_ties_the_first_text_is_nearest(kind: str) -> None:
    index = TextIndex.of(TEXTS, vectors(kind))
    assert index.nearest("the red door", 2)[0].tolist() == [0, 3]
    assert index.nearest("the red door")[1] == pytest.approx([1.0])
    assert len(index.nearest("door", 99)[0]) == len(TEXTS)


def test_an_empty_collection_has_no_nearest_text() -> None:
    places, similarity = TextIndex.of([], WordGroups()).nearest("a")
    assert (len(places), len(similarity)) == (0, 0)
