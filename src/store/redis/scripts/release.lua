-- Ends the lease of the node that sends webhooks, if this node has it.
-- KEYS: 1 the lease. ARGV: 1 the node
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 'OK'
