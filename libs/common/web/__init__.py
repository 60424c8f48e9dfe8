"""What every HTTP surface shares: problem details, tokens, health, limits, serving.

An app is wired in three steps: `edge.install(app, settings)` (problem details, tokens, CORS,
body limits, request ids, metrics), `health.routes(bus_state, ready)` among its routes, and
`serve.serve(app, settings, service)` in `__main__`. Endpoints take
`Depends(tokens.require("read"))`, or call `tokens.authorize(request, "read")`; the Identity then
decides per namespace (`identity.require_namespace(ns, "dataset ns/name")` answers 404).
Long answers (event streams) end when `request.app.state.stopping` is set.
"""
