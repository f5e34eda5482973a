"""For httpx's clients that speak http alone: to load the certificates of a default context takes 20 ms for each."""

import ssl

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
