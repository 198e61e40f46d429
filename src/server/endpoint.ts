export const endpoint = '/graphql'
/** A request without a JSON body (such as a subscription by GET) must carry it, so that no foreign page can send it. Its value does not matter. */
export const csrfHeader = 'x-graphql-yoga-csrf'
