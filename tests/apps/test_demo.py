"""The web page's server: what it refuses, whose turn it is, what it says, and what it answers at all."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from demo_pair import WORDS, braked_pair
from typer.testing import CliRunner

import specbeam as sb
from specbeam.apps.demo import server as demo
from specbeam.apps.demo.actions import Actions
from specbeam.apps.demo.jobs import RACE, JobQueue
from specbeam.apps.demo.markup import equality, models, shown
from specbeam.apps.demo.settings import Limits, Settings, settings
from specbeam.decoding.trace import Trace
from specbeam.pictures import token_strip

# Gradio's own
pytestmark = pytest.mark.filterwarnings("ignore:.*no_silent_downcasting", "ignore:The copy keyword is deprecated")
LIMITS = Limits(prompt_characters=80, prompt_tokens=12, max_new_tokens=40, num_beams=6, num_assistant_tokens=30)


def queue(**limits: Any) -> tuple[JobQueue, Any]:
    pair, brake = braked_pair()
    return JobQueue(pair, Limits(**limits), every=0), brake


# what is asked for


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prompt": " \n"}, "empty"),
        ({}, "empty"),
        ({"prompt": "a" * 81}, "81 characters.*takes 80"),
        ({"prompt": "a" * 41, "system": "b" * 40}, "system prompt have 81 characters"),
        ({"prompt": 7}, "no text"),
        ({"prompt": "a", "system": ["b"]}, "no text"),
        ({"prompt": "a", "method": "magic"}, "greedy, beam"),
        ({"prompt": "a", "method": ["greedy"]}, "no method"),
        ({"prompt": "a", "num_beams": 7}, "from 1 to 6"),
        ({"prompt": "a", "num_beams": 1.5}, "whole number"),
        ({"prompt": "a", "num_beams": True}, "must be a number"),
        ({"prompt": "a", "max_new_tokens": 10**400}, "New tokens"),
        ({"prompt": "a", "max_new_tokens": "0"}, "from 1 to 40"),
        ({"prompt": "a", "length_penalty": "nan"}, "must be a number"),
        ({"prompt": "a", "length_penalty": 6}, "between -5 and 5"),
        ({"prompt": "a", "num_assistant_tokens": "many"}, "Drafted tokens"),
        ({"prompt": "a", "num_assistant_tokens": 31}, "from 0 to 30"),
    ],
)
def test_what_is_not_served_is_refused_in_words(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings(given, LIMITS)


@pytest.mark.parametrize("budget", [None, 0, 7])
def test_the_query_of_a_link_gives_the_same_settings_back(budget: int | None) -> None:
    asked = Settings("<b>&?# ½ 👩‍👩‍👧\n\x00\u202e +%", "be brief", "beam", 3, 17, -0.5, budget)
    query = {name: values[0] for name, values in parse_qs(asked.query()[1:]).items()}
    assert settings(query, Limits()) == asked and query["run"] == "1"


def test_an_untouched_budget_is_automatic_however_it_is_said() -> None:
    for said in (None, "", " auto ", "Automatic"):
        assert settings({"prompt": "a", "num_assistant_tokens": said}, LIMITS).num_assistant_tokens is None


def test_lone_surrogates_become_replacement_characters() -> None:
    assert settings({"prompt": "a\ud800b"}, LIMITS).prompt == "a\ufffdb"


def test_defaults_fit_limits_that_are_lower() -> None:
    asked = settings({"prompt": "a"}, Limits(max_new_tokens=5, num_beams=2))
    assert (asked.max_new_tokens, asked.num_beams) == (5, 2)


def test_limits_that_serve_nobody_are_refused() -> None:
    with pytest.raises(ValueError, match="max_new_tokens=0"):
        Limits(max_new_tokens=0)


# whose turn it is


def test_a_prompt_of_too_many_tokens_is_refused_before_it_waits() -> None:
    found, _ = queue(prompt_tokens=3)
    with pytest.raises(ValueError, match="4 tokens, and this page takes 3"):
        found.submit({"prompt": "w1 w2 w3 w4"})


@pytest.mark.parametrize("method", list(sb.METHODS))
def test_a_job_ends_with_what_the_decoder_gives(method: str) -> None:
    found, _ = queue()
    last = found.submit({"prompt": "w1 w2", "method": method, "max_new_tokens": 9, "num_beams": 3}).wait()
    options = {"num_beams": 3} if "beam" in method else {}
    inputs = sb.render_prompt(found.pair.tokenizer, "w1 w2")
    assert last.ended and not last.stopped and last.error is None
    assert (
        last.results[method].sequences
        == sb.METHODS[method](found.pair, inputs, max_new_tokens=9, **options).sequences[:1]
    )


def test_visitors_are_served_in_the_order_in_which_they_came() -> None:
    found, brake = queue()
    brake.open.clear()
    served_order: list[int] = []
    jobs = [found.submit({"prompt": f"w{n}", "max_new_tokens": 3}) for n in range(4)]
    assert brake.reached.wait(20)
    assert [next(iter(job)).ahead for job in jobs] == [0, 1, 2, 3]

    def follow(number: int) -> None:
        for now in jobs[number]:
            if now.shots and number not in served_order:
                served_order.append(number)

    threads = [threading.Thread(target=follow, args=(n,)) for n in (3, 1, 0, 2)]
    for one in threads:
        one.start()
    brake.open.set()
    for one in threads:
        one.join(20)
    assert served_order == [0, 1, 2, 3]


def test_a_full_line_is_refused_and_open_again_later() -> None:
    found, brake = queue(waiting=2)
    brake.open.clear()
    jobs = [found.submit({"prompt": "w1", "max_new_tokens": 2}) for _ in range(2)]
    with pytest.raises(ValueError, match="2 others are waiting"):
        found.submit({"prompt": "w1"})
    brake.open.set()
    for job in jobs:
        job.wait()
    assert found.submit({"prompt": "w1", "max_new_tokens": 2}).wait().results


def test_who_stops_while_waiting_leaves_the_line_at_once() -> None:
    found, brake = queue()
    brake.open.clear()
    first, second, third = (found.submit({"prompt": "w1", "max_new_tokens": 2}) for _ in range(3))
    assert brake.reached.wait(20)
    second.stop()
    last = second.wait()
    assert last.ended and last.stopped and not last.results
    assert next(iter(third)).ahead == 1
    brake.open.set()
    assert first.wait().results and third.wait().results


def test_a_stop_ends_the_decode_after_its_step_and_keeps_the_text() -> None:
    found, brake = queue()
    brake.seconds = 0.01
    job = found.submit({"prompt": "w1", "method": "greedy", "max_new_tokens": 200})
    for now in job:
        if now.shots and not job.stopped:
            job.stop()
    assert now.ended and now.stopped
    tokens = now.results["greedy"].sequences[0]
    assert 0 < len(tokens) < 200 and brake.passes < 200


def test_a_stop_in_a_race_leaves_the_other_methods_out() -> None:
    found, brake = queue()
    brake.seconds = 0.01
    job = found.submit({"prompt": "w1", "max_new_tokens": 200}, race=True)
    for now in job:
        if now.shots:
            job.stop()
    assert list(now.results) == ["greedy"]


def test_a_decode_that_breaks_is_told_without_its_secrets_and_the_next_is_served(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = queue()
    whole = sb.METHODS["greedy"]

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret path")

    monkeypatch.setitem(sb.METHODS, "greedy", broken)
    last = found.submit({"prompt": "w1", "method": "greedy"}).wait()
    assert last.error is not None and "secret" not in last.error
    assert "secret path" in capsys.readouterr().err
    monkeypatch.setitem(sb.METHODS, "greedy", whole)
    assert found.submit({"prompt": "w1", "method": "greedy", "max_new_tokens": 2}).wait().results


# what the page says


def news_of(actions: Actions, act: str = "run", **given: Any) -> dict[str, Any]:
    """Everything that was said, the last word on each part."""
    found: dict[str, Any] = {}
    for news in getattr(actions, act)("me", {"prompt": "w1 w2", "max_new_tokens": 12, **given}):
        found |= news
    return found


def test_a_run_shows_the_text_the_pictures_and_a_record_that_draws_them_again() -> None:
    found, _ = queue()
    news = news_of(Actions(found, {"threads": 1}))
    document = record_in(news["links"])
    result = document["results"]["speculative_beam"]
    trace = Trace.from_json(result["trace"])
    assert news["frames"] > 1 and not news["busy"]
    assert nodes_in(news["tree"]) >= {n for step in trace.steps for n in step}
    assert document["parameters"]["prompt"] == "w1 w2" and document["threads"] == 1
    assert trace.results == result["sequences"]
    assert token_strip(result["trace"]).html() == news["strip"]
    assert news["timeline"].count("data-round=") == len(trace.rounds)


def test_a_race_compares_the_speculative_methods_with_their_plain_search() -> None:
    found, _ = queue()
    news = news_of(Actions(found), "race")
    assert "✓ the same 12 tokens as greedy" in news["cards"]
    assert "✓ the same 12 tokens as beam search" in news["cards"]
    assert list(record_in(news["race_links"])["results"]) == list(RACE)


def test_what_models_and_visitors_write_is_text_everywhere() -> None:
    found, _ = queue()
    actions = Actions(found)
    prompt = " ".join(WORDS[1:12])
    said = []
    for act in ("run", "race"):
        news = news_of(actions, act, prompt=prompt, max_new_tokens=40)
        said += [value for value in news.values() if isinstance(value, str)]
        refused = news_of(actions, act, prompt=prompt, method="<script>window.hacked=1</script>")
        said += [value for value in refused.values() if isinstance(value, str)]
    said += [actions.step("me", number) for number in range(len(actions.pictures("me")))]
    whole = "".join(said)
    assert "&lt;script&gt;window.hacked" in whole
    assert not re.search(r"<(script|img)|</div></svg>&|\u202e", whole)


def test_steps_go_through_the_pictures_and_say_so_where_there_are_none() -> None:
    found, _ = queue()
    actions = Actions(found)
    news = news_of(actions)
    assert len(actions.pictures("me")) == news["frames"] and actions.step("me", news["frames"] - 1) == news["tree"]
    assert "prompt's pass" in actions.step("me", 0)
    for name, number in (("me", -1), ("me", news["frames"]), ("somebody else", 0)):
        assert "no longer kept" in actions.step(name, number)


def test_a_visitor_who_leaves_ends_the_decode_and_is_forgotten() -> None:
    found, brake = queue()
    actions = Actions(found)
    brake.seconds = 0.02
    run = actions.run("me", {"prompt": "w1", "method": "greedy", "max_new_tokens": 200})
    assert next(run)["busy"]
    actions.leave("me")
    *_, last = run
    assert "Stopped" in last["status"] and brake.passes < 100 and not actions.pictures("me")


def test_a_page_that_stops_listening_ends_the_decode() -> None:
    found, brake = queue()
    brake.seconds = 0.02
    run = Actions(found).run("me", {"prompt": "w1", "method": "greedy", "max_new_tokens": 200})
    next(run)
    run.close()  # type: ignore[attr-defined]
    assert found.submit({"prompt": "w2", "max_new_tokens": 2}).wait().results
    assert brake.passes < 100


def test_the_pictures_of_few_visitors_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specbeam.apps.demo.actions.KEPT", 2)
    actions = Actions(queue()[0])
    for name in "abc":
        list(actions.run(name, {"prompt": "w1", "max_new_tokens": 3}))
    list(actions.run("d", {"prompt": "w1", "max_new_tokens": 3}))
    assert [bool(actions.pictures(name)) for name in "abcd"] == [False, False, True, True]


def test_equality_is_said_of_stopped_decodes_as_far_as_they_came() -> None:
    def of(*tokens: int) -> Any:
        return type("Result", (), {"sequences": [list(tokens)]})

    assert equality(of(1, 2), of(1, 2), "greedy") == "✓ the same 2 tokens as greedy"
    assert equality(of(1), of(1, 2), "greedy") == "the same 1 token as greedy as far as both came"
    assert equality(of(1, 3), of(1, 2), "greedy") == "≠ greedy from token 2 on"


def record_in(markup: str) -> dict[str, Any]:
    packed = re.search(r"base64,([^\"]+)", markup)
    assert packed is not None
    return json.loads(base64.b64decode(packed[1]))


def nodes_in(markup: str) -> set[int]:
    return {int(n) for group in re.findall(r'data-nodes="([^"]+)"', markup) for n in group.split()}


# what the server answers


@pytest.fixture
def gate() -> Any:
    return pytest.importorskip("specbeam.apps.demo.gate", reason="it comes with Gradio", exc_type=ImportError)


@pytest.mark.parametrize(
    ("path", "answered"),
    [
        ("/", True),
        ("/assets/index-abc.js", True),
        ("/gradio_api/queue/join", True),
        ("/gradio_api/heartbeat/abc", True),
        ("/gradio_api/file=/etc/passwd", False),
        ("/gradio_api/file/etc/passwd", False),
        ("/gradio_api/upload", False),
        ("/gradio_api/proxy=https://example.com", False),
        ("/gradio_api/component_server", False),
        ("/assets/../../etc/passwd", False),
        ("/monitoring", False),
        ("/docs", False),
    ],
)
def test_only_the_page_its_assets_and_its_queue_are_answered(gate: Any, path: str, answered: bool) -> None:
    assert gate.served(path) == answered


def through_the_gate(gate: Any, headers: dict[bytes, bytes], bodies: list[bytes]) -> tuple[int, list[bytes]]:
    """Status of a request through the gate, and what the app behind it read."""
    read: list[bytes] = []
    sent: list[dict[str, Any]] = []
    waiting = [{"type": "http.request", "body": body, "more_body": True} for body in bodies]

    async def app(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        for _ in bodies:
            read.append((await receive()).get("body", b"gone"))
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/gradio_api/queue/join", "headers": list(headers.items())}
    asyncio.run(gate.Gate(app)(scope, receive, send))
    if sent[0]["status"] == 200:
        assert b"default-src 'self'" in dict(sent[0]["headers"])[b"content-security-policy"]
    return sent[0]["status"], read


def test_requests_that_are_too_long_are_cut_off_announced_or_not(gate: Any) -> None:
    assert through_the_gate(gate, {b"content-length": b"5"}, [b"short"]) == (200, [b"short"])
    assert through_the_gate(gate, {b"content-length": str(gate.MOST_BYTES + 1).encode()}, [b"a"]) == (413, [])
    assert through_the_gate(gate, {b"content-length": b"-1"}, [b"a"]) == (413, [])
    half = b"a" * (gate.MOST_BYTES // 2 + 1)
    assert through_the_gate(gate, {}, [half, half]) == (200, [half, b"gone"])


@pytest.fixture(scope="module")
def page() -> Any:
    pytest.importorskip("gradio")
    pair, _ = braked_pair()
    found = demo.launch(pair, port=None, limits=LIMITS, wait=False)
    yield found
    found.close()


def test_another_program_gets_text_and_statistics(page: Any) -> None:
    client = pytest.importorskip("gradio_client").Client(page.local_url, verbose=False)
    text, stats = client.predict("w1 w2", "greedy", max_new_tokens=7, api_name="/decode")
    pair, _ = braked_pair()
    plain = sb.greedy(pair, sb.render_prompt(pair.tokenizer, "w1 w2"), max_new_tokens=7)
    assert (text, stats["tokens"], stats["steps"]) == (plain.text[0], plain.sequences[0], 7)
    assert settings({k: v[0] for k, v in parse_qs(stats["query"][1:]).items()}, LIMITS).max_new_tokens == 7
    with pytest.raises(Exception, match="from 1 to 40"):
        client.predict("w1", max_new_tokens=41, api_name="/decode")
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/decode"]


def test_hostile_bytes_at_the_endpoint_do_no_harm(page: Any) -> None:
    url = page.local_url + "gradio_api/call/decode"
    said = []
    for data in ('"\\ud800 \\u0000 w1"', '{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}', "null"):
        body = f'{{"data": [{data}, "greedy", 1, 4, 1, null, ""]}}'
        event = httpx.post(url, content=body, headers={"content-type": "application/json"}).json()["event_id"]
        said.append(httpx.get(f"{url}/{event}", timeout=300).text)
    assert "event: complete" in said[0]
    assert all("event: error" in each and "root" not in each for each in said[1:])
    assert httpx.get(page.local_url + "gradio_api/file=/etc/passwd").status_code == 404
    assert httpx.get(page.local_url).status_code == 200


def test_the_page_names_no_other_host_as_a_source(page: Any) -> None:
    answer = httpx.get(page.local_url)
    assert "connect-src 'self'" in answer.headers["content-security-policy"]
    assert page.share is False and page.share_url is None


def test_a_port_in_use_is_told_before_a_model_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    from specbeam.apps.cli.main import app

    monkeypatch.setattr(sb, "load_pair", lambda *_, **__: pytest.fail("the model was loaded"))
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        result = CliRunner().invoke(app, ["demo", "--port", str(port)])
    assert result.exit_code == 2 and "another port" in result.stderr
    assert CliRunner().invoke(app, ["demo", "--port", "99999"]).exit_code == 2
    assert CliRunner().invoke(app, ["demo", "--max-new-tokens", "0"]).exit_code == 2


def test_without_gradio_the_command_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from specbeam.apps.cli.main import app

    monkeypatch.setitem(sys.modules, "gradio", None)
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 2 and "pip install 'specbeam[demo]'" in result.stderr


def test_the_help_of_the_command_imports_no_gradio() -> None:
    code = "import sys; from specbeam.apps.cli.main import app; app(['demo', '--help'], standalone_mode=False); "
    code += "sys.exit('gradio' in sys.modules or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "gradio_client" in done.stdout


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/name + auto", "org/name + auto"),
        ("SmolLM2 + recall", "SmolLM2 + recall"),
        ("/home/me/models/mine/ + /data/small", "mine + small"),
        ("C:\\models\\mine + ngram", "mine + ngram"),
        ("./mine + ~/small", "mine + small"),
    ],
)
def test_visitors_do_not_learn_where_a_folder_is(name: str, expected: str) -> None:
    assert shown(name) == expected


def test_records_for_visitors_name_folders_by_their_last_part() -> None:
    pair, _ = braked_pair()
    pair.target.config.name_or_path = "/home/me/models/mine"
    named = sb.Pair(pair.target, pair.draft, pair.tokenizer, "/home/me/models/mine + recall", {})
    assert models(named)["models"]["pair"] == "mine + recall"
    assert "/home" not in json.dumps(models(named))
