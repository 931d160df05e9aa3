"""Requests as HTTP or the model API do not spell them, by what is wrong with them."""

from tests.edge.house import CHAT, chat
from tests.features.gateway.rig import KEY

BODY = chat()
AUTH = b"Authorization: Bearer " + KEY.encode() + b"\r\n"
SECOND = b"GET /v1/models HTTP/1.1\r\nHost: h\r\n" + AUTH + b"\r\n"


def raw(
    *lines: bytes, body: bytes = b"", method: bytes = b"POST", target: bytes = CHAT, host: bytes = b"Host: h"
) -> bytes:
    head = [method + b" " + target + b" HTTP/1.1", host, AUTH.strip(), *lines]
    return b"\r\n".join(line for line in head if line) + b"\r\n\r\n" + body


LENGTH = b"Content-Length: %d" % len(BODY)
SMUGGLED = {
    "length and chunked": raw(LENGTH, b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SECOND),
    "chunked and length": raw(b"Transfer-Encoding: chunked", LENGTH, body=b"0\r\n\r\n" + SECOND),
    "two lengths": raw(b"Content-Length: 0", LENGTH, body=BODY),
    "the same length twice": raw(LENGTH, LENGTH, body=BODY),
    "a list of lengths": raw(b"Content-Length: 5, 5", body=b"hello"),
    "a signed length": raw(b"Content-Length: +5", body=b"hello"),
    "a negative length": raw(b"Content-Length: -5", body=b"hello"),
    "a hexadecimal length": raw(b"Content-Length: 0x5", body=b"hello"),
    "a length beyond any number": raw(b"Content-Length: " + b"9" * 40, body=b"hello"),
    "an empty length": raw(b"Content-Length: ", body=b"hello"),
    "another coding": raw(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + SECOND),
    "chunked before another": raw(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + SECOND),
    "identity": raw(b"Transfer-Encoding: identity", body=BODY),
    "gzip": raw(b"Transfer-Encoding: gzip", body=BODY),
    "a space before the colon": raw(b"Content-Length : %d" % len(BODY), body=BODY),
    "a folded header": raw(b"X-Folded: a\r\n b", LENGTH, body=BODY),
    "a folded coding": raw(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n" + SECOND),
    "NUL in a value": raw(b"X-Odd: a\x00b", LENGTH, body=BODY),
    "NUL in a name": raw(b"X-O\x00dd: a", LENGTH, body=BODY),
    "CR in a value": raw(b"X-Odd: a\rb", LENGTH, body=BODY),
    "a bare line feed": raw(LENGTH, body=BODY).replace(b"\r\n", b"\n"),
    "a line feed that ends a header": raw(b"X-Odd: a\nTransfer-Encoding: chunked", body=b"0\r\n\r\n" + SECOND),
    "no name": raw(b": a", LENGTH, body=BODY),
    "no colon": raw(b"X-Odd", LENGTH, body=BODY),
    "a name with a bracket": raw(b"X(Odd): a", LENGTH, body=BODY),
    "no version": b"GET /v1/models\r\n\r\n",
    "HTTP/2": b"GET /v1/models HTTP/2.0\r\nHost: h\r\n\r\n",
    "another version": b"GET /v1/models HTTP/1.7\r\nHost: h\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another protocol": b"GET /v1/models FTP/1.1\r\nHost: h\r\n\r\n",
    "an unknown method": b"FROB /v1/models HTTP/1.1\r\nHost: h\r\n\r\n",
    "a lower-case method": b"get /v1/models HTTP/1.1\r\nHost: h\r\n\r\n",
    "a space in the target": b"GET /v1/models x HTTP/1.1\r\nHost: h\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "noise": bytes(range(256)) * 4,
    "a chunk without a size": raw(b"Transfer-Encoding: chunked", body=b"zz\r\nhello\r\n0\r\n\r\n"),
    "a chunk longer than it says": raw(b"Transfer-Encoding: chunked", body=b"2\r\nhello\r\n0\r\n\r\n"),
    "a chunk of endless size": raw(b"Transfer-Encoding: chunked", body=b"f" * 40 + b"\r\nhello"),
    "a negative chunk": raw(b"Transfer-Encoding: chunked", body=b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunks parted by line feeds": raw(b"Transfer-Encoding: chunked", body=b"5\nhello\n0\n\n"),
    "a chunk's NUL extension": raw(b"Transfer-Encoding: chunked", body=b"5;a\x00\r\nhello\r\n0\r\n\r\n"),
}


ODD_BODIES = {
    "nothing": b"",
    "bad UTF-8": b'{"model":"gpt","messages":[{"role":"user","content":"\xff"}]}',
    "a cut UTF-8 sequence": b'{"model":"gpt","messages":[{"role":"user","content":"\xc3"}]}',
    "an overlong UTF-8 sequence": b'{"model":"gpt","messages":[{"role":"user","content":"\xc0\xaf"}]}',
    "a surrogate in UTF-8": b'{"model":"gpt","messages":[{"role":"user","content":"\xed\xa0\x80"}]}',
    "a byte order mark": b"\xef\xbb\xbf" + BODY,
    "UTF-16": BODY.decode().encode("utf-16"),
    "half an object": BODY[:-1],
    "two objects": BODY + BODY,
    "a list": b"[" + BODY + b"]",
    "a text": b'"hello"',
    "null": b"null",
    "a number": b"1",
    "NaN": b'{"model":"gpt","messages":[NaN]}',
    "a comma too many": b'{"model":"gpt","messages":[{}],}',
    "a comment": b'{"model":"gpt",/* */"messages":[{}]}',
    "single quotes": b"{'model':'gpt','messages':[{}]}",
    "deep nesting": b'{"model":"gpt","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"model":"gpt","messages":[' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"]}",
    "the model twice": b'{"model":"gpt","model":"held","messages":[{}]}',
    "the model twice, once escaped": b'{"model":"gpt","\\u006dodel":"held","messages":[{}]}',
    "the messages twice": b'{"model":"gpt","messages":[{}],"messages":[{"role":"user","content":"x"}]}',
    "stream twice": b'{"model":"gpt","messages":[{}],"stream":true,"stream":false}',
    "a maximum twice": b'{"model":"gpt","messages":[{}],"max_tokens":1,"max_tokens":100000}',
    "no model": b'{"messages":[{}]}',
    "a model of another type": b'{"model":["gpt"],"messages":[{}]}',
    "an empty model": b'{"model":"","messages":[{}]}',
    "no messages": b'{"model":"gpt"}',
    "empty messages": b'{"model":"gpt","messages":[ ]}',
    "messages of another type": b'{"model":"gpt","messages":{"role":"user"}}',
    "a temperature of another type": b'{"model":"gpt","messages":[{}],"temperature":"hot"}',
    "a temperature beyond": b'{"model":"gpt","messages":[{}],"temperature":99}',
    "n of 0": b'{"model":"gpt","messages":[{}],"n":0}',
    "a maximum of 0": b'{"model":"gpt","messages":[{}],"max_tokens":0}',
    "a seed that is no whole number": b'{"model":"gpt","messages":[{}],"seed":1.5}',
    "stream options of another type": b'{"model":"gpt","messages":[{}],"stream_options":[]}',
    "a user of another type": b'{"model":"gpt","messages":[{}],"user":{}}',
}
