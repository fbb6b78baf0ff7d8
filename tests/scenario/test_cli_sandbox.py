"""towline sandbox: made, listed, looked at, stopped, started and deleted."""

import json
import subprocess

import pytest
from conftest import wait_until
from towline_cli import box, home  # noqa: F401


def phases(cli, *words):
    return {item["name"]: item["phase"] for item in cli("-o", "json", "sandbox", "list", *words).json}


def test_life(box):
    made = box("sandbox", "create", "--name", "life")
    assert made.out == "life\n" and "ready after" in made.err
    assert "READY" in box("sandbox", "get", "life").out
    assert phases(box) == {"box": "READY", "life": "READY"}
    assert "stopped life" in box("sandbox", "stop", "life").err
    assert phases(box)["life"] == "STOPPED"
    refused = box("sandbox", "exec", "-n", "life", "--", "true", code=255)
    assert "STOPPED" in refused.err
    assert "started life" in box("sandbox", "start", "life").err
    box("sandbox", "exec", "-n", "life", "--", "true")
    assert "deleted life" in box("sandbox", "delete", "life").err
    assert phases(box) == {"box": "READY"}


def test_tables(box):
    lines = box("sandbox", "list").out.splitlines()
    assert lines[0].split() == ["NAME", "WORKSPACE", "PHASE", "CREATED"]
    assert lines[1].split()[:3] == ["box", "default", "READY"]
    got = box("sandbox", "get", "box").out
    assert [line.split()[0] for line in got.splitlines()][:6] == ["name", "id", "workspace", "phase", "created", "labels"]


def test_as_many_labels_as_there_may_be(box):
    labels = {f"{n:02}" + "k" * 251: "v" * 63 for n in range(64)}
    box.gateway.create("labelled", labels=labels, wait=False)
    shown = dict(line.split(maxsplit=1) for line in box("sandbox", "get", "labelled").out.splitlines())["labels"]
    assert dict(pair.split("=") for pair in shown.split(",")) == labels
    assert box("-o", "json", "sandbox", "get", "labelled").json["labels"] == labels


def test_json(box):
    made = box("-o", "json", "sandbox", "create", "-n", "j", "-l", "team=red", "-l", "tier=1").json
    assert made["name"] == "j" and made["phase"] == "READY" and made["labels"] == {"team": "red", "tier": "1"}
    got = box("sandbox", "get", "j", "-o", "json").json
    assert got["id"] == made["id"] and got["created_at"].endswith("Z")
    assert {condition["type"] for condition in got["conditions"]}
    assert box("-o", "json", "sandbox", "stop", "j").json["phase"] == "STOPPED"
    assert box("-o", "json", "sandbox", "start", "j").json["phase"] == "READY"
    assert box("-o", "json", "sandbox", "delete", "j").json == [{"name": "j", "outcome": "deleted"}]


def test_selectors(box):
    for name, label in (("red", "team=red"), ("blue", "team=blue")):
        box("sandbox", "create", "--name", name, "--label", label)
    assert set(phases(box, "--selector", "team=red")) == {"red"}
    assert set(phases(box, "-l", "team=blue")) == {"blue"}
    assert set(phases(box, "-A")) == {"red", "blue", "box"}
    box("sandbox", "delete", "red", "blue")


def test_names(box):
    assert "taken" in (text := box("sandbox", "create", "-n", "box", code=1).err) or "exists" in text or "already" in text
    error = json.loads(box("-o", "json", "sandbox", "create", "-n", "box", code=1).err)["error"]
    assert error["code"] == "ALREADY_EXISTS"
    for name in ("Upper", "a" * 64, "under_score", "-x"):
        error = json.loads(box("-o", "json", "sandbox", "create", f"--name={name}", code=1).err)["error"]
        assert error["code"] == "INVALID_ARGUMENT", error
    for verb in ("get", "stop", "start", "delete"):
        assert "nonesuch" in box("sandbox", verb, "nonesuch", code=1).err
    assert "nonesuch" in box("sandbox", "exec", "-n", "nonesuch", "--", "true", code=255).err
    assert phases(box) == {"box": "READY"}


def test_delete_of_several(box):
    box("sandbox", "create", "-n", "a")
    box("sandbox", "create", "-n", "b")
    failed = box("-o", "json", "sandbox", "delete", "a", "nonesuch", "b", code=1)
    assert [item["name"] for item in failed.json] == ["a", "b"]
    assert "nonesuch" in failed.err
    assert box("-o", "json", "sandbox", "delete", "--allow-missing", "a").json[0]["outcome"] == "already absent"


def test_the_one_used_last(box):
    box("sandbox", "create", "-n", "one")
    box("sandbox", "create", "-n", "two")
    assert "two" in box("sandbox", "exec", "--", "printenv", "OPENSHELL_SANDBOX").out
    box("sandbox", "get", "one")
    assert box("-o", "json", "sandbox", "get").json["name"] == "one"
    box("sandbox", "delete", "one")
    assert "no sandbox is named" in box("sandbox", "get", code=1).err
    box("sandbox", "delete", "two")


def test_command_at_once(box):
    assert box("sandbox", "create", "-n", "c", "-e", "WHO=me", "--", "sh", "-c", "echo $WHO; exit 9", code=9).out == "me\n"
    assert phases(box)["c"] == "READY"
    box("sandbox", "delete", "c")
    assert box("sandbox", "create", "-n", "c", "--no-keep", "--", "echo", "gone").out == "gone\n"
    wait_until(lambda: "c" not in phases(box), 10, "it is deleted")


def test_upload_and_forward_at_once(box):
    (box.here / "tree").mkdir()
    (box.here / "tree/f").write_text("in")
    (box.here / "file").write_text("one")
    line = "sandbox create -n u --upload tree --upload file:renamed --forward 0:9 --no-keep -- cat tree/f renamed"
    made = box(*line.split())
    assert made.out == "inone"
    assert "forwarding to" in made.err and "deleted u" in made.err
    assert box("-o", "json", "forward", "list").json == []


def test_a_shell_on_a_terminal(box):
    with box.terminal("sandbox", "create", "-n", "t", "--no-keep") as screen:
        screen.expect(rb"[$#] ")
        screen.type("echo $((40 + 2)); exit 3\r")
        screen.expect(rb"\r42\r\n")
        screen.expect(b"deleted t")
        assert screen.end() == 3
    with box.terminal("sandbox", "create", "-n", "d", "--detach") as screen:
        screen.expect(rb"d\r\n")
        assert screen.end() == 0
    box("sandbox", "delete", "d")


def test_workspaces(box):
    failed = box("--workspace", "nonesuch", "sandbox", "create", "-n", "w", code=1)
    assert "nonesuch" in failed.err
    from openshell._proto import openshell_pb2 as pb

    box.gateway.stub.CreateWorkspace(pb.CreateWorkspaceRequest(name="team"), timeout=10)
    team = box.with_env(OPENSHELL_WORKSPACE="team")
    team("sandbox", "create", "-n", "w")
    assert phases(team) == {"w": "READY"}
    assert phases(box) == {"box": "READY"}
    assert set(phases(box, "-A")) == {"w", "box"}
    (box.here / "f").write_text("x")
    team("sandbox", "upload", "w", "f")
    assert team("sandbox", "exec", "--", "cat", "f").out == "x"
    team("sandbox", "delete", "w")


def test_quiet(box):
    assert box("-q", "sandbox", "create", "-n", "q").err == ""
    assert box("sandbox", "delete", "-q", "q").err == ""
    failed = box("-q", "sandbox", "get", "q", code=1)
    assert failed.err.startswith("towline: ") and failed.err.count("\n") == 1


def test_color_codes_never_reach_a_pipe(box):
    for words in (["sandbox", "list"], ["sandbox", "get", "box"], ["--help"]):
        assert "\x1b" not in box(*words).out


@pytest.mark.parametrize("verb", ["stop", "start", "delete"])
def test_without_waiting(box, verb):
    box("sandbox", "create", "-n", "n")
    if verb == "start":
        box("sandbox", "stop", "n")
    box("sandbox", verb, "--no-wait", "n")
    wait_until(lambda: phases(box).get("n") == {"stop": "STOPPED", "start": "READY"}.get(verb), 30, verb)
    box("sandbox", "delete", "--allow-missing", "n")


def test_list_to_a_reader_that_leaves(box):
    process = box.popen("sandbox", "list", stdout=subprocess.PIPE)
    process.stdout.close()
    process.stdout = None
    process.communicate(timeout=30)
    assert process.returncode in (0, 1)
