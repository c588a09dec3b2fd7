def define(flow, context):
    flow.sync_node().modify(bytes.upper)
