"""Help texts are the #: comments above attributes."""

from gemstone_sync.config.comments import comment_of


class Base:
    #: What the base says,
    #: in two lines with ``markup`` and `links`.
    first: int = 1
    #: Never overridden.
    second = 2

    # An ordinary comment.
    third = 3

    def method(self) -> None:
        pass


class Child(Base):
    first = 5
    #: The child's own.
    third = 4


def test_the_comment_of_the_class_that_has_one():
    assert comment_of(Base, "first") == "What the base says, in two lines with markup and links."
    assert comment_of(Child, "first") == comment_of(Base, "first")
    assert comment_of(Child, "second") == "Never overridden."
    assert comment_of(Base, "third") == ""
    assert comment_of(Child, "third") == "The child's own."


def test_no_source_is_no_comment():
    made = type("Made", (), {"x": 1})

    assert comment_of(made, "x") == ""
    assert comment_of(int, "real") == ""
