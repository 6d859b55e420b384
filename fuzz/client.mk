client_fuzzers = client_text
