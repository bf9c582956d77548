import time

import huggingface_hub
import pytest
from huggingface_hub.utils import close_session
from packaging.version import Version

from demur.benchmark.errors import DemurError
from demur.benchmark.export import CHECKSUMS
from demur.benchmark.hub import accept_request, pending_requests, publish, reject_request
from demur.benchmark.manifest import manifest
from demur.tests import hub_server

ID = "org/demur"
COMMIT = f"POST {hub_server.REPO}/commit/main"
HANDLE = f"POST {hub_server.REPO}/user-access-request/handle"
PENDING = f"GET {hub_server.REPO}/user-access-request/pending"
CREATE = "POST /api/repos/create"


def at(monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    # Before 2.0 the client asks for access requests where this constant, read at its import, says.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)


@pytest.fixture
def hub(monkeypatch):
    with hub_server.serving() as (state, endpoint):
        at(monkeypatch, endpoint)
        monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
        # The client waits between its own retries; the waiting itself is not what is tested.
        monkeypatch.setattr(time, "sleep", lambda _: None)
        yield state
        close_session()


def test_publishing_makes_a_gated_repository_with_one_commit_and_a_tag(hub):
    done = publish(ID)
    assert done.new
    assert done.tag == f"v{manifest()['version']}"
    assert hub.settings["gated"] == "manual"
    assert len(hub.commits) == 1
    assert hub.tags == {done.tag: hub.head}
    assert {"README.md", "eval.yaml", "croissant.json", CHECKSUMS, "prompts/public.parquet"} <= set(hub.files)
    gate, send = hub.log.index(f"PUT {hub_server.REPO}/settings"), hub.log.index(COMMIT)
    assert gate < send
    assert hub.files["gated.age"].startswith(b"age-encryption.org/")


def test_publishing_again_sends_nothing(hub):
    publish(ID)
    again = publish(ID)
    assert not again.new
    assert len(hub.commits) == 1
    assert hub.log.count(COMMIT) == 1


def test_files_that_are_gone_are_removed_and_a_changed_version_is_a_fault(hub):
    publish(ID)
    hub.tags.clear()
    hub.commits[0]["title"] = "an older version"
    hub.files["old.parquet"] = b"old"
    publish(ID)
    assert "old.parquet" not in hub.files
    assert len(hub.commits) == 2
    hub.commits.insert(0, {**hub.commits[0], "id": "e" * 40, "title": "something else"})
    hub.tags = dict.fromkeys(hub.tags, "e" * 40)
    with pytest.raises(DemurError, match="was published with other content"):
        publish(ID)


def test_a_connection_dropped_after_the_commit_does_not_publish_twice(hub):
    hub.faults[COMMIT] = ["drop after"]
    with pytest.raises(DemurError, match="connection to the Hub failed") as caught:
        publish(ID)
    assert "nothing is done twice" in caught.value.fix
    assert not hub.tags
    done = publish(ID)
    assert not done.new
    assert len(hub.commits) == 1
    assert hub.tags == {done.tag: hub.head}


def test_a_connection_dropped_before_the_commit_is_made_good_by_a_retry(hub):
    hub.faults[COMMIT] = ["drop"]
    with pytest.raises(DemurError, match="connection to the Hub failed"):
        publish(ID)
    assert not hub.commits
    assert publish(ID).new
    assert len(hub.commits) == 1


@pytest.mark.parametrize(
    ("place", "fault", "words"),
    [
        (CREATE, (401, None), "does not accept the token"),
        (CREATE, (403, None), "not allowed: the token may not write there"),
        (COMMIT, (403, None), "not allowed"),
        (COMMIT, (403, "GatedRepo"), "gated"),
        (COMMIT, (404, "RepoNotFound"), "no such repository"),
        (COMMIT, (409, None), "conflict"),
        (COMMIT, (412, None), "conflict"),
        (COMMIT, (500, None), "the Hub has a fault (500)"),
        (COMMIT, (503, None), "the Hub has a fault (503)"),
        (COMMIT, (400, None), "the Hub refused (400)"),
    ],
)
def test_each_fault_of_publishing_is_one_clear_message_and_a_retry_works(hub, place, fault, words):
    hub.faults[place] = [fault]
    with pytest.raises(DemurError) as caught:
        publish(ID)
    assert words in caught.value.message
    assert caught.value.fix
    assert "Traceback" not in str(caught.value)
    assert hub_server.TOKEN not in str(caught.value)
    assert publish(ID).new
    assert len(hub.commits) == 1


def test_a_missing_or_wrong_token_is_named(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(DemurError, match="does not accept the token") as caught:
        publish(ID)
    assert "hf_wrong" not in str(caught.value)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("demur.benchmark.hub.get_token", lambda: None)
    for call in (lambda: publish(ID), lambda: pending_requests(ID), lambda: accept_request(ID, "ann")):
        with pytest.raises(DemurError, match="no Hugging Face token"):
            call()


def test_a_bad_id_and_a_dead_server_are_named(hub, monkeypatch):
    with pytest.raises(DemurError, match="not a repository id"):
        publish("org/de/mur")
    at(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(DemurError, match="connection to the Hub failed: ConnectError"):
        pending_requests(ID)


def test_requests_are_listed_accepted_and_rejected(hub):
    hub.exists = True
    found = pending_requests(ID)
    assert [(request.username, request.email) for request in found] == [
        ("ann", "ann@example.org"),
        ("ben", "ben@example.org"),
    ]
    assert found[0].fields == {"Affiliation": "Lab"}
    accept_request(ID, "ann")
    reject_request(ID, "ben", "no conditions accepted")
    assert hub.answered == {"ann": ("accepted", None), "ben": ("rejected", "no conditions accepted")}
    assert pending_requests(ID) == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ((401, None), "does not accept the token"),
        ((403, None), "not allowed"),
        ((404, None), "no such request"),
        ((409, None), "answered already"),
        ((500, None), "has a fault"),
        ("drop", "connection to the Hub failed"),
    ],
)
def test_faults_of_answering_requests(hub, fault, words):
    hub.exists = True
    hub.faults[HANDLE] = [fault]
    with pytest.raises(DemurError) as caught:
        accept_request(ID, "ann")
    assert words in caught.value.message
    assert hub.answered == {}
    accept_request(ID, "ann")
    with pytest.raises(DemurError, match="answered already"):
        accept_request(ID, "ann")
    with pytest.raises(DemurError, match="no such request"):
        reject_request(ID, "nobody")


def test_listing_outlives_a_passing_fault_and_names_a_lasting_one(hub):
    hub.exists = True
    # Before 2.0 the client asks for access requests once.
    hub.faults[PENDING] = [(503, None), "drop"] if Version(huggingface_hub.__version__) >= Version("2.0") else []
    assert len(pending_requests(ID)) == 2
    hub.faults[PENDING] = [(503, None)] * 20
    with pytest.raises(DemurError, match="has a fault"):
        pending_requests(ID)
