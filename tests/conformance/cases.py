"""The whole table, one list; each idea has its own module."""

from . import (
    cases_auth,
    cases_batch,
    cases_hints,
    cases_http,
    cases_ids,
    cases_json,
    cases_names,
    cases_origins,
    cases_params,
    cases_results,
    cases_spec,
)

CASES = [
    *cases_spec.CASES,
    *cases_ids.CASES,
    *cases_names.CASES,
    *cases_params.CASES,
    *cases_hints.CASES,
    *cases_json.CASES,
    *cases_batch.CASES,
    *cases_results.CASES,
    *cases_auth.CASES,
    *cases_http.CASES,
    *cases_origins.CASES,
]
