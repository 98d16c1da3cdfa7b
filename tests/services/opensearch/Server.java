import org.codelibs.opensearch.runner.OpenSearchRunner;

/** One OpenSearch node: Server HOST:PORT FOLDER [SETTING=VALUE …]. */
public class Server {
  public static void main(String[] arguments) throws Exception {
    String[] address = arguments[0].split(":");
    OpenSearchRunner runner = new OpenSearchRunner();
    runner.onBuild((number, settings) -> {
      settings.put("network.host", address[0]);
      settings.put("http.port", address[1]);
      settings.put("transport.port", "0");
      settings.put("discovery.type", "single-node");
      settings.put("node.roles", "cluster_manager,data,ingest");
      settings.put("cluster.routing.allocation.disk.threshold_enabled", false);
      for (int i = 2; i < arguments.length; i++) {
        String[] setting = arguments[i].split("=", 2);
        settings.put(setting[0], setting[1]);
      }
    });
    runner.build(OpenSearchRunner.newConfigs().basePath(arguments[1]).clusterName("aqueduct-tests").numOfNode(1));
    Thread.currentThread().join();
  }
}
