"""One file per way to reach a teacher; all speak in `Request` and `Response`."""
