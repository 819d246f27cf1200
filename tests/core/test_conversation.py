"""Conversations: their columns give them back, and their turns are those of the file."""

from hypothesis import given
from hypothesis import strategies as st

from cohobate.core.conversation import Conversation, Message, Query, Role, query

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
roles: st.SearchStrategy[Role] = st.sampled_from(["system", "user", "assistant"])
messages = st.lists(st.builds(Message, roles, texts), max_size=5)
conversations = st.builds(lambda before, last: Conversation((*before, Message("user", last))), messages, texts)


@given(conversations)
def test_the_columns_of_a_row_give_back_what_was_asked(conversation: Conversation) -> None:
    back: Query = query(conversation.transcript, conversation.written)
    assert back == (conversation.last if len(conversation.messages) == 1 else conversation)


@given(conversations)
def test_every_answered_turn_stands_behind_a_user_message(conversation: Conversation) -> None:
    turns = list(conversation.answered_turns())
    for before, text in turns:
        place = len(before.messages)
        assert before.messages == conversation.messages[:place] and before.messages[-1].role == "user"
        assert conversation.messages[place] == Message("assistant", text)
    pairs = zip(conversation.messages, conversation.messages[1:], strict=False)
    assert len(turns) == sum((a.role, b.role) == ("user", "assistant") for a, b in pairs)


@given(conversations, texts)
def test_instructions_stand_before_those_of_the_conversation(conversation: Conversation, system: str) -> None:
    under = conversation.under(system)
    own = conversation.system
    assert under.system == (system if own is None else f"{system}\n\n{own}")
    assert under.messages[1:] == conversation.messages[own is not None :]
    assert conversation.under(None) == conversation.under("") == conversation


def test_a_transcript_names_the_roles() -> None:
    conversation = Conversation((Message("system", "Be brief."), Message("user", "2 + 2?")))
    assert conversation.transcript == "System: Be brief.\n\nUser: 2 + 2?"
    assert conversation.dialogue == "2 + 2?"
