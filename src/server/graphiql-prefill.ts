/**
 * Browser code, as text. With a token in the address's fragment (`/graphql#token=…`, which no browser sends to a server), it writes the token into
 * every tab's headers, and the ids that exist into the examples' variables. Without one, it changes nothing.
 */
export const prefillFromHash = String.raw`async function (options) {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (!token) return options;
  history.replaceState(null, '', location.pathname);
  localStorage.removeItem('graphiql:tabState');
  const authorization = 'Bearer ' + token;
  const headers = JSON.stringify({ Authorization: authorization }, null, 2);
  options.defaultHeaders = headers;
  for (const tab of options.defaultTabs) tab.headers = headers;
  const query = '{ clouds(first: 2, filter: { states: [CONNECTED] }) { nodes { id virtualMachines(first: 1, filter: { present: true, power: [RUNNING] }) { nodes { id } } } }'
    + ' migrations(first: 1) { nodes { id } } jobs(first: 1) { nodes { id } } }';
  try {
    const answer = await fetch(location.pathname, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization },
      body: JSON.stringify({ query }),
    });
    const { data } = await answer.json();
    const source = data.clouds.nodes.find((cloud) => cloud.virtualMachines.nodes.length > 0);
    const destination = data.clouds.nodes.find((cloud) => cloud !== source);
    const known = {
      '<id of a virtual machine>': source && source.virtualMachines.nodes[0].id,
      '<id of another cloud>': destination && destination.id,
      '<id of a migration>': data.migrations.nodes[0] && data.migrations.nodes[0].id,
      '<id of a job>': data.jobs.nodes[0] && data.jobs.nodes[0].id,
    };
    for (const tab of options.defaultTabs)
      for (const [placeholder, id] of Object.entries(known)) if (id && tab.variables) tab.variables = tab.variables.replaceAll(placeholder, id);
  } catch (error) {
    console.warn('The examples keep their placeholders:', error);
  }
  return options;
}`
