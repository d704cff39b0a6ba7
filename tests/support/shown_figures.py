"""The accuracies of a page, read as people do: of what each of them is stands beside it."""

import re

_KINDS = {"b": "measured", "i": "reported"}
_FRONT = re.compile(r", (\S+) at (.+?): the front of \d+, (?:([\d,]+) images|number)")


def figures(page, own=""):
    """Those among the facts and in the tables of a page, but for the table of all checkpoints.

    Args:
        page: A `built_site.Page`.
        own: The threat model of the page's checkpoint, as tests write it: "linf 4/255".

    Returns:
        (kind, value, attack|threat model|images, element); * where the number of images is not beside it.
    """
    found, term = [], ""
    for e in page.elements:
        term = e if e["tag"] == "dt" else term
        if e["tag"] not in _KINDS or not e["path"] or e["path"][-1]["tag"] not in ("td", "dd"):
            continue
        tables = [outer for outer in e["path"] if outer["tag"] == "table"]
        if not tables:
            of = _of_a_fact(e["path"][-1], term["text"], own)
        elif tables[-1].get("id") != "checkpoints":
            of = _of_a_cell(e, tables[-1])
        else:
            continue
        found.append((_KINDS[e["tag"]], e["text"].removeprefix("≤ "), of, e))
    return found


def _of_a_fact(fact, term, own):
    (beside,) = (e["text"] for e in fact["inside"] if e["tag"] == "small")
    images = re.search(r", ([\d,]+) images$", beside)
    if term == "Clean accuracy":
        return f"none||{images[1].replace(',', '') if images else ''}"
    assert term == "Robust accuracy"
    return f"{beside.partition(', ')[0].lower()}|{own}|*"


def _of_a_cell(e, table):
    row = next(outer for outer in reversed(e["path"]) if outer["tag"] == "tr")
    cells = [cell for cell in row["inside"] if cell["tag"] == "td"]
    (caption,) = (each["text"] for each in table["inside"] if each["tag"] == "caption")
    if front := _FRONT.search(caption):
        attack, threat, images = front.groups()
        clean = e["path"][-1] is cells[1]
        return "none||*" if clean else f"{attack}|{threat}|{(images or '').replace(',', '')}".lower()
    head = next(cell for cell in row["inside"] if cell["tag"] == "th")
    said = head["text"]
    for small in (each["text"] for each in head["inside"] if each["tag"] == "small"):
        said = said.replace(small, "")
    attack, _, threat = said.strip().replace("no attack", "none").partition(", ")
    images = cells[-1]["text"].replace(",", "").replace("not said", "")
    return f"{attack}|{threat}|{images}".lower()
