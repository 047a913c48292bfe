"""Replicas of the suppression APIs of providers, made from their documents, not from our code.

Each keeps its lists in memory and answers one call at a time.
"""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote

Reply = tuple[int, Any]
"""Status and JSON; ``None``: no body."""


@dataclass(frozen=True)
class Request:
    """A call as it arrived. ``path`` is encoded; names of headers are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def parts(self) -> list[str]:
        """The decoded parts of the path."""
        return [unquote(part) for part in self.path.split("/")[1:]]

    @property
    def values(self) -> dict[str, str]:
        """The query, empty values included."""
        found = parse_qs(self.query, keep_blank_values=True)
        return {name: values[-1] for name, values in found.items()}

    @property
    def document(self) -> Any:
        """Its JSON; ``None``: it has none."""
        return json.loads(self.body) if self.body else None


class Replica:
    """One account.

    Attributes:
        writes: calls that changed something, in order, each as method, list and addresses.
        refused: addresses that the provider does not take.
        half: how many entries of the next write take effect before it fails; ``None``: all.
    """

    def __init__(self) -> None:
        self.writes: list[tuple[str, str, tuple[str, ...]]] = []
        self.refused: set[str] = set()
        self.half: int | None = None

    def handle(self, request: Request) -> Reply:
        """Answers a call."""
        if not self.may(request):
            return 401, self.error("authorization required")
        return self.route(request)

    def may(self, request: Request) -> bool:
        raise NotImplementedError

    def route(self, request: Request) -> Reply:
        raise NotImplementedError

    def error(self, text: str) -> Any:
        raise NotImplementedError

    def note(self, method: str, name: str, addresses: list[str]) -> list[str]:
        """Notes a write; returns the addresses that take effect."""
        taken = addresses if self.half is None else addresses[: self.half]
        self.writes.append((method, name, tuple(taken)))
        return taken


class SendGrid(Replica):
    """``tsg_suppressions_v3.yaml``: a write to a missing group lands on the global list."""

    key = "SG.replica-key"

    def __init__(self) -> None:
        super().__init__()
        self.everyone: dict[str, int] = {}
        self.groups: dict[str, dict[str, int]] = {}

    def may(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {self.key}"

    def error(self, text: str) -> Any:
        return {"errors": [{"field": None, "message": text}]}

    def route(self, request: Request) -> Reply:
        match request.method, *request.parts:
            case "POST", "v3", "asm", "suppressions", "global":
                return self._add(request, "global", self.everyone)
            case "POST", "v3", "asm", "groups", group, "suppressions":
                return self._add(request, group, self.groups.get(group, self.everyone))
            case "DELETE", "v3", "asm", "suppressions", "global", address:
                return self._remove("global", self.everyone, address)
            case "DELETE", "v3", "asm", "groups", group, "suppressions", address:
                return self._remove(group, self.groups.get(group, {}), address)
            case "GET", "v3", "asm", "groups", group:
                known = group in self.groups
                return (200, {"id": int(group), "name": group, "description": ""}) if known else (
                    404, self.error("resource not found"))  # fmt: skip
            case "GET", "v3", "asm", "groups", group, "suppressions":
                return 200, sorted(self.groups.get(group, {}))
            case "GET", "v3", "suppression", "unsubscribes":
                begin, limit = int(request.values["offset"]), int(request.values["limit"])
                rows = [{"email": one, "created": 1} for one in sorted(self.everyone)]
                return 200, rows[begin : begin + min(limit, 500)]
        return 404, self.error("not found")

    def _add(self, request: Request, name: str, listed: dict[str, int]) -> Reply:
        addresses = request.document["recipient_emails"]
        if bad := [one for one in addresses if one in self.refused]:
            return 400, self.error(f"email address {bad[0]} is invalid")
        listed.update(dict.fromkeys(self.note("POST", name, addresses), 1))
        return 201, {"recipient_emails": addresses}

    def _remove(self, name: str, listed: dict[str, int], address: str) -> Reply:
        self.note("DELETE", name, [address])
        listed.pop(address, None)
        return 204, None


class Mailgun(Replica):
    """``src/openapi.yaml``: lists of domains; a DELETE without an address clears a list."""

    key = "replica-key"

    def __init__(self, *domains: str) -> None:
        super().__init__()
        names = ("bounces", "complaints", "unsubscribes")
        self.lists: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
            (domain, name): {} for domain in domains for name in names
        }

    def may(self, request: Request) -> bool:
        token = base64.b64encode(f"api:{self.key}".encode()).decode()
        return request.headers.get("authorization") == f"Basic {token}"

    def error(self, text: str) -> Any:
        return {"message": text}

    def route(self, request: Request) -> Reply:
        version, domain, name, *rest = request.parts
        listed = self.lists.get((domain, name))
        if version != "v3" or listed is None:
            return 404, self.error("Domain not found: " + domain)
        match request.method, *rest:
            case ("POST",):
                return self._add(request.document, f"{domain}/{name}", name, listed)
            case "DELETE", *address if not address or address == [""]:
                listed.clear()
                return 200, {"message": "Bounced addresses for this domain have been removed"}
            case "DELETE", address:
                self.note("DELETE", f"{domain}/{name}", [address])
                found = listed.pop(address, None)
                return (404 if found is None else 200), {"message": "", "address": address}
            case "GET", address:
                if address not in listed:
                    return 404, self.error("Address not found in bounces table")
                return 200, listed[address]
            case ("GET",):
                return 200, self._page(request, listed)
        return 405, self.error("method not allowed")

    def _add(self, rows: Any, where: str, name: str, listed: dict[str, Any]) -> Reply:
        if len(rows) >= 1_000:
            return 400, self.error("Batch size should be less than 1000")
        required = {"bounces": {"code", "error"}, "complaints": set(), "unsubscribes": {"tags"}}
        for row in rows:
            if not required[name] | {"address", "created_at"} <= set(row):
                return 400, self.error("missing field")
            if row["address"] in self.refused:
                return 400, self.error(f"{row['address']} is not a valid address")
        taken = set(self.note("POST", where, [row["address"] for row in rows]))
        listed.update({row["address"]: row for row in rows if row["address"] in taken})
        return 200, {"message": f"{len(rows)} addresses have been added to the {name} table"}

    def _page(self, request: Request, listed: dict[str, Any]) -> Any:
        limit, after = int(request.values["limit"]), request.values.get("address", "")
        rows = [listed[one] for one in sorted(listed) if one > after][:limit]
        last = quote(rows[-1]["address"], safe="") if rows else quote(after, safe="")
        url = f"https://elsewhere.example{request.path}?limit={limit}&page=next&address={last}"
        return {"items": rows, "paging": {"next": url, "previous": url}}


class SparkPost(Replica):
    """``suppression-list.apib``: a DELETE without ``list_id`` removes every entry of an address."""

    key = "sparkpost-replica-key"

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str, str], dict[str, str]] = {}
        self.compliance: set[str] = set()

    def may(self, request: Request) -> bool:
        return request.headers.get("authorization") == self.key

    def error(self, text: str) -> Any:
        return {"errors": [{"message": text}]}

    def route(self, request: Request) -> Reply:
        if request.parts[:3] != ["api", "v1", "suppression-list"]:
            return 404, self.error("not found")
        match request.method, "/".join(request.parts[3:]):
            case "PUT", "":
                return self._put(request.document["recipients"])
            case "GET", "":
                return self._search(request)
            case "GET", address:
                found = [row for (one, *_), row in self.entries.items() if one == address]
                if not found:
                    return 404, self.error("Recipient could not be found")
                return 200, {"results": found, "links": [], "total_count": len(found)}
            case "DELETE", address:
                return self._delete(request, address)
        return 405, self.error("method not allowed")

    def _put(self, rows: Any) -> Reply:
        if bad := [row["recipient"] for row in rows if row["recipient"] in self.refused]:
            text = f"PUT body contains {len(bad)} invalid or malformed recipient(s): "
            return 400, self.error(text + ", ".join(bad))
        taken = self.note("PUT", "list", [row["recipient"] for row in rows])
        for row in rows[: len(taken)]:
            key = row["recipient"], row["type"], row.get("list_id", "")
            self.entries[key] = {**row, "source": "Manually Added"}
        return 200, {"results": {"message": "Suppression List successfully updated"}}

    def _delete(self, request: Request, address: str) -> Reply:
        if address in self.compliance:
            return 403, self.error("Recipient could not be removed - Compliance")
        kind = (request.document or {}).get("type")
        list_id = request.values.get("list_id")
        self.note("DELETE", "list", [address])
        gone = [
            key for key in self.entries
            if key[0] == address and kind in (None, key[1]) and list_id in (None, key[2])
        ]  # fmt: skip
        for key in gone:
            del self.entries[key]
        return (204, None) if gone else (404, self.error("Recipient could not be found"))

    def _search(self, request: Request) -> Reply:
        values = request.values
        types = values["types"].split(",")
        begin = 0 if values["cursor"] == "initial" else int(values["cursor"])
        rows = [
            row for (_, kind, list_id), row in sorted(self.entries.items())
            if kind in types and values.get("list_id") in (None, list_id)
        ]  # fmt: skip
        end = begin + int(values["per_page"])
        kept = "&".join(f"{k}={quote(v, safe='')}" for k, v in values.items() if k != "cursor")
        href = f"{request.path}?{kept}&cursor={end}"
        links = [{"href": href, "rel": "next"}] if end < len(rows) else []
        return 200, {"results": rows[begin:end], "links": links, "total_count": len(rows)}


class Postmark(Replica):
    """The suppressions of message streams: 200 with each address's own status."""

    key = "postmark-server-token"

    def __init__(self, *streams: str) -> None:
        super().__init__()
        self.streams: dict[str, dict[str, dict[str, str]]] = {stream: {} for stream in streams}

    def may(self, request: Request) -> bool:
        return request.headers.get("x-postmark-server-token") == self.key

    def error(self, text: str) -> Any:
        return {"ErrorCode": 1, "Message": text}

    def route(self, request: Request) -> Reply:
        match request.method, *request.parts:
            case "GET", "message-streams", stream, "suppressions", "dump" if self._has(stream):
                rows = list(self.streams[stream].values())
                if (wanted := request.values.get("EmailAddress")) is not None:
                    rows = [row for row in rows if row["EmailAddress"] == wanted]
                return 200, {"Suppressions": rows}
            case "POST", "message-streams", stream, "suppressions", *rest if self._has(stream):
                asked = [row["EmailAddress"] for row in request.document["Suppressions"]]
                if len(asked) > 50:
                    return 422, self.error("no more than 50 addresses")
                change = self._delete if rest == ["delete"] else self._add
                return change(stream, asked)
        return 422, self.error("The 'MessageStream' was not found")

    def _has(self, stream: str) -> bool:
        return stream in self.streams

    def _add(self, stream: str, addresses: list[str]) -> Reply:
        fixed = self._complaints(stream) | self.refused
        taken = self.note("POST", stream, [one for one in addresses if one not in fixed])
        for address in taken:
            self.streams[stream].setdefault(
                address, {"EmailAddress": address, "SuppressionReason": "ManualSuppression",
                          "Origin": "Customer", "CreatedAt": "2026-01-01T00:00:00-05:00"},
            )  # fmt: skip
        return 200, {"Suppressions": [self._status(one, one in taken, "Suppressed")
                                      for one in addresses]}  # fmt: skip

    def _complaints(self, stream: str) -> set[str]:
        listed = self.streams[stream]
        return {one for one in listed if listed[one]["SuppressionReason"] == "SpamComplaint"}

    def _delete(self, stream: str, addresses: list[str]) -> Reply:
        listed = self.streams[stream]
        fixed = self._complaints(stream)
        taken = self.note("DELETE", stream, [one for one in addresses if one not in fixed])
        for address in taken:
            listed.pop(address, None)
        return 200, {"Suppressions": [self._status(one, one in taken, "Deleted")
                                      for one in addresses]}  # fmt: skip

    def _status(self, address: str, good: bool, word: str) -> dict[str, Any]:
        return {"EmailAddress": address, "Status": word if good else "Failed",
                "Message": None if good else "You do not have the required authority"}  # fmt: skip


class Ses(Replica):
    """``sesv2/2019-09-27``: one entry an address, with a reason; signatures are checked."""

    key_id, secret, region = "AKIDREPLICA", "replica-secret-access-key", "eu-north-1"
    path = "/v2/email/suppression/addresses"

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], dict[str, Any]] = {}

    def may(self, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        names = given.partition("SignedHeaders=")[2].partition(",")[0]
        at = request.headers.get("x-amz-date", "")
        lines = [request.method, quote(request.path, safe="/~"),
                 "&".join(sorted(request.query.split("&"))),
                 *(f"{name}:{request.headers.get(name, '')}" for name in names.split(";")),
                 "", names, hashlib.sha256(request.body).hexdigest()]  # fmt: skip
        scope = f"{at[:8]}/{self.region}/ses/aws4_request"
        hashed = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{hashed}"
        key = b"AWS4" + self.secret.encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        return given.endswith(f"Signature={signature}") and f"={self.key_id}/{scope}," in given

    def error(self, text: str) -> Any:
        return {"message": text}

    def route(self, request: Request) -> Reply:
        tenant = request.values.get("TenantName", "")
        if request.method == "PUT" and request.path == self.path:
            return self._put(request.document)
        if request.method == "GET" and request.path == self.path:
            return self._list(request, tenant)
        key = unquote(request.path.removeprefix(self.path + "/")), tenant
        if key not in self.entries:
            return 404, self.error(
                f"Email address {key[0]} does not exist on your suppression list"
            )
        if request.method == "GET":
            return 200, {"SuppressedDestination": self.entries[key]}
        self.note("DELETE", tenant, [key[0]])
        del self.entries[key]
        return 200, {}

    def _put(self, row: Any) -> Reply:
        address, reason, tenant = row["EmailAddress"], row["Reason"], row.get("TenantName", "")
        if reason not in ("BOUNCE", "COMPLAINT") or address in self.refused:
            return 400, self.error("The input you provided is invalid.")
        if self.note("PUT", tenant, [address]):
            self.entries[address, tenant] = {"EmailAddress": address, "Reason": reason}
        return 200, {}

    def _list(self, request: Request, tenant: str) -> Reply:
        begin, size = int(request.values.get("NextToken", "0")), int(request.values["PageSize"])
        rows = [row for (_, own), row in sorted(self.entries.items())
                if own == tenant and row["Reason"] == request.values["Reason"]]  # fmt: skip
        more = {"NextToken": str(begin + size)} if begin + size < len(rows) else {}
        return 200, {"SuppressedDestinationSummaries": rows[begin : begin + size], **more}
