"""How hosts that are no hub hand out a file: Drive, Dropbox, a release on GitHub, Nextcloud.

`/download?id=ID&export=download&confirm=t` (drive)         the bytes; without confirm=t, or with the fault "virus", the
                                                            page that asks for a click; with "quota" that of the quota
`/s/KEY/FILE?dl=1` (dropbox)                                a redirect to another host; without dl=1 a page
`/OWNER/REPO/releases/download/TAG/FILE` (release)          a redirect to a signed address on another host
`/public.php/dav/files/TOKEN/FILE` (nextcloud)              the bytes
`/signed/FILE?sig=...` (signed)                             the bytes, for those who have the signature
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

SIGNATURE = "s1gn4ture-of-the-moment"
QUOTA = b"""<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>
<p class="uc-error-caption">Sorry, you can&#39;t view or download this file at this time.</p>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently. Please try accessing the
file again later. It may take up to 24 hours to be able to view or download the file.</p></body></html>"""
VIRUS = b"""<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<p class="uc-warning-caption">Google Drive can't scan this file for viruses.</p>
<form id="download-form" action="https://drive.usercontent.google.com/download" method="get">
<input type="submit" id="uc-download-link" value="Download anyway"/></form></body></html>"""
PREVIEW = b"<!DOCTYPE html><html><head><title>imagenet.pt - Dropbox</title></head></html>"
HTML = {"Content-Type": "text/html; charset=utf-8"}
Answer = tuple[int, bytes, dict[str, str]]


@dataclass(frozen=True)
class Share:
    where: str
    file: str
    query: dict[str, list[str]]


def of(path: str, drive: dict[str, str]) -> Share | None:
    """What a request asks for, None when it is the hub's."""
    parts, query = urlsplit(path).path.strip("/").split("/"), parse_qs(urlsplit(path).query)
    if parts == ["download"]:
        return Share("drive", drive.get(query.get("id", [""])[0], ""), query)
    if parts[0] == "s":
        return Share("dropbox", parts[-1], query)
    if parts[2:4] == ["releases", "download"]:
        return Share("release", parts[-1], query)
    if parts[:3] == ["public.php", "dav", "files"]:
        return Share("nextcloud", parts[-1], query)
    return Share("signed", parts[-1], query) if parts[0] == "signed" else None


def answer(share: Share, fault: str, elsewhere: str) -> Answer | None:
    """(status, body, headers) of what is not the file itself; None where it is."""
    signed = {"Location": f"{elsewhere}/signed/{share.file}?sig={SIGNATURE}&sp=r"}
    if share.where == "drive" and fault == "quota":
        return 200, QUOTA, HTML
    if share.where == "drive" and (fault == "virus" or share.query.get("confirm") != ["t"]):
        return 200, VIRUS, HTML
    if share.where == "dropbox":
        return (302, b"", signed) if share.query.get("dl") == ["1"] else (200, PREVIEW, HTML)
    if share.where == "release":
        return 302, b"", signed
    if share.where == "signed" and share.query.get("sig") != [SIGNATURE]:
        return 403, b"", {}
    return None
