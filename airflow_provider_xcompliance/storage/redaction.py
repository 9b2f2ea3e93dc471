"""Keep secrets out of what the stores' libraries log, at DEBUG above all."""

from __future__ import annotations

import logging
import re
import traceback

# They log whole requests: URLs with their signatures, headers, what was signed and how.
_LIBRARIES = {"azure", "boto3", "botocore", "google", "msal", "s3transfer", "smart_open", "urllib3"}

_SECRETS = (
    # Credentials in a URI, as smart_open takes them; then queries, which may be signatures.
    (re.compile(r"(://)[^\s/@'\"]*:[^\s@'\"]*@"), r"\1***@"),
    (re.compile(r"\?[^\s'\"=]*=[^\s'\"]*"), "?***"),
    # The same where they stand alone: parameters, and headers both as sent and as printed from a dictionary.
    (re.compile(r"(?i)((?:sig|signature|token|credential|account_?key|upload_?id)=)[^&\s,;'\"]+"), r"\1***"),
    (
        re.compile(
            r"(?i)((?:authorization|token|signature|account_?key|access_?key|secret|password)['\"]?\s*:\s*)"
            r"(?:b?'[^']*'|b?\"[^\"]*\"|[^\r\n]+)"
        ),
        r"\1***",
    ),
    (re.compile(r"(<(?:SecretAccessKey|SessionToken)>)[^<]+"), r"\1***"),
    (re.compile(r"(?i)\b(bearer|basic|sharedkey)\s+[\w+/=.:~-]{16,}"), r"\1 ***"),
)


# Whole requests and answers, which google-auth adds to records for handlers that write JSON.
_EXTRAS = {"httpRequest", "httpResponse"}


class _SecretsFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if record.exc_info:
            # Texts of exceptions hold URLs too, and a handler would print them after this.
            text += "\n" + "".join(traceback.format_exception(*record.exc_info))
            record.exc_info = record.exc_text = None
        for extra in _EXTRAS & vars(record).keys():
            delattr(record, extra)
        for pattern, replacement in _SECRETS:
            text = pattern.sub(replacement, text)
        record.msg, record.args = text, None
        return True


_FILTER = _SecretsFilter()

# These speak already while a client is made, if its connection has to fetch credentials.
for _name in ("botocore.auth", "botocore.endpoint", "botocore.parsers"):
    logging.getLogger(_name).addFilter(_FILTER)


def shield() -> None:
    """
    Filter all loggers that those libraries have by now.

    A filter on a logger does not see the records of its children, and children appear as modules are
    imported: so this is called each time, when the client is at hand.
    """
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in _LIBRARIES:
            # Adding it once more does nothing.
            logging.getLogger(name).addFilter(_FILTER)
