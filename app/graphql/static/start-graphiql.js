// GraphiQL for this service: the token in the header editor goes with every request and opens every socket.
"use strict";

const ENDPOINT = "/graphql";
const RETRIES = 5;
const EDITING_MS = 500;
const HISTORIES = ["graphiql:queries", "graphiql:favorites"];
const NO_TOKEN_YET = '{\n  "Authorization": "Bearer "\n}';
const FIRST_OPERATIONS = `# Sign in with POST /api/login and put the
# token of its answer into "Headers" below:
#   {"Authorization": "Bearer <token>"}
# Then the docs (top left) and Ctrl-Space help.
# Ctrl-Enter runs the operation at the cursor.

query Tickets {
  tickets(limit: 10) { id title status priority }
}

subscription Events {
  ticketEvents { type cursor ticket { id title } }
}
`;
const CLOSINGS = {
  4400: "The service could not read a message",
  4401: "The token is not good, or its session has ended: put another into the headers and run this again",
  4403: "The service refused the token or this page's origin: put another token into the headers and run this again",
  4408: "No token arrived in time: put one into the headers and run this again",
  4429: "Events came faster than they were read, or too many sockets are open: run this again with the last cursor",
};

/** The header's value, whichever way its name is written; undefined as long as there is no token in it. */
function authorizationIn(headers) {
  const [, value] = Object.entries(headers ?? {}).find(([name]) => name.toLowerCase() === "authorization") ?? [];
  return /^\s*Bearer\s+\S/i.test(value) ? value : undefined;
}

function isSubscription({ query, operationName }) {
  try {
    return GraphiQL.GraphQL.getOperationAST(GraphiQL.GraphQL.parse(query), operationName)?.operation === "subscription";
  } catch {
    return false; // the service says better what is wrong with it
  }
}

async function post(request, headers) {
  let answer;
  try {
    answer = await fetch(ENDPOINT, {
      method: "POST",
      headers: { Accept: "application/graphql-response+json", "Content-Type": "application/json", ...headers },
      body: JSON.stringify(request),
    });
    return await answer.json();
  } catch (error) {
    // A plain object: with an Error, GraphiQL would show the stack as well.
    throw { message: answer ? `HTTP ${answer.status} without JSON` : `No answer: ${error.message}` };
  }
}

/** A client for each run, so that no socket is ever used with another token than the one that opened it. */
function subscribe(request, authorization) {
  const start = (sink) => {
    const note = (message) => sink.next({ errors: [{ message }] });
    const client = graphqlWs.createClient({
      url: location.origin.replace("http", "ws") + ENDPOINT,
      connectionParams: { Authorization: authorization },
      // A restart (1012) or a broken network will pass. A refusal (44xx) would only be repeated.
      shouldRetry: (reason) => !(reason.code >= 4000),
      retryAttempts: RETRIES,
      retryWait: async (earlier) => {
        note(`There is no connection; trying again (${earlier + 1} of ${RETRIES})`);
        await new Promise((resolve) => setTimeout(resolve, 1000 * 2 ** earlier));
      },
      on: {
        connected: (_socket, _payload, isRetry) => {
          if (isRetry) note("Connected again. For what happened meanwhile, run this again with the last cursor");
        },
      },
    });
    const unsubscribe = client.subscribe(request, { ...sink, error: (reason) => sink.error(explained(reason)) });
    return { unsubscribe };
  };
  return { subscribe: start };
}

/** What the result pane shows of GraphQL errors (as they are), of a closed socket, and of one that never opened. */
function explained(reason) {
  if (!(reason instanceof Event)) return reason;
  if (!reason.code) return { message: "The service can't be reached" };
  const message = CLOSINGS[reason.code] ?? "The service closed the connection";
  return { message, extensions: { closeCode: reason.code, reason: reason.reason } };
}

function fetcher(request, headers) {
  return isSubscription(request) ? subscribe(request, authorizationIn(headers)) : post(request, headers);
}

/** GraphiQL's history would keep the headers of whatever was run, and a token has no place on the disk. */
function storageWithoutTokens() {
  const storage = GraphiQL.createLocalStorage({ namespace: "ticketing" });
  const write = storage.setItem;
  const withoutHeaders = (name, value) => (name === "headers" ? NO_TOKEN_YET : value);
  storage.setItem = (key, text) =>
    write(key, HISTORIES.includes(key) ? JSON.stringify(JSON.parse(text, withoutHeaders)) : text);
  return storage;
}

const root = ReactDOM.createRoot(document.getElementById("page"));
const storage = storageWithoutTokens();
let shown;
let editing;

/** Shows the page with the schema as the holder of this token may see it; without a token there is none to be had. */
function show(authorization) {
  shown = authorization;
  root.render(
    React.createElement(GraphiQL, {
      // Always a new function, since that is what makes GraphiQL ask for the schema again.
      fetcher: (request, options) => fetcher(request, options?.headers),
      schema: shown ? undefined : null,
      storage,
      shouldPersistHeaders: false,
      defaultQuery: FIRST_OPERATIONS,
      // New tabs begin with the token of the others.
      defaultHeaders: shown ? JSON.stringify({ Authorization: shown }, null, 2) : NO_TOKEN_YET,
      defaultEditorToolsVisibility: "headers",
      onEditHeaders: noticeToken,
    }),
  );
}

function noticeToken(text) {
  clearTimeout(editing);
  editing = setTimeout(() => {
    const authorization = authorizationIn(parsed(text));
    if (authorization && authorization !== shown) show(authorization);
  }, EDITING_MS);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {}; // half-written; there will be another edit
  }
}

show();
