#!/usr/bin/env bash
# kafka.sh TOOL ARGS... : runs one of Apache Kafka's own command line tools, as Maven Central has them.
#   kafka.sh topics --bootstrap-server HOST:PORT --list
# kafka.sh server FOLDER PORT [SETTING=VALUE...] : runs a broker of one node on 127.0.0.1:PORT (its controller on the next port)
# with its data in FOLDER, until it is killed.
# AQUEDUCT_KAFKA_JAVA has options for Java in place of those for tools that live a second.
# Needs Java 17 and Maven; the jars (95 of them, 55 MB) are fetched once into AQUEDUCT_SERVICES_CACHE (default ~/.cache/aqueduct-services).
set -euo pipefail
version=4.3.1
cache=${AQUEDUCT_SERVICES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/aqueduct-services}
place=$cache/bin/kafka-$version-1

fetch() { # FOLDER: fills it with the tools' jars
  for tool in mvn java; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: it runs Kafka's tools, see tests/services/README.md" >&2; return 1; }
  done
  local dependency='<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version></dependency>\n'
  {
    echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    echo '<groupId>local</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging><dependencies>'
    # shellcheck disable=SC2059
    printf "$dependency" org.apache.kafka kafka_2.13 "$version" org.apache.kafka kafka-tools "$version" \
      org.apache.logging.log4j log4j-slf4j-impl 2.25.4
    echo '</dependencies></project>'
  } >"$1/pom.xml"
  mvn -q -B -f "$1/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$1/lib" >&2
  printf '%s\n' 'status = warn' 'appender.err.type = Console' 'appender.err.name = ERR' 'appender.err.target = SYSTEM_ERR' \
    'appender.err.layout.type = PatternLayout' 'appender.err.layout.pattern = [%d] %p %m (%c)%n' 'rootLogger.level = WARN' \
    'rootLogger.appenderRef.err.ref = ERR' >"$1/log4j2.properties"
}

if [ ! -e "$place/lib" ]; then
  mkdir -p "$cache/bin"
  fresh=$(mktemp -d "$cache/bin/.kafka.XXXXXX")
  if ! fetch "$fresh"; then
    rm -rf "$fresh"
    exit 1
  fi
  # Somebody else may have been faster: then theirs is as good.
  mv -T "$fresh" "$place" 2>/dev/null || rm -rf "$fresh"
fi

server() { # FOLDER PORT [SETTING=VALUE...]
  local folder=$1 port=$2
  shift 2
  mkdir -p "$folder"
  printf '%s\n' process.roles=broker,controller node.id=1 "controller.quorum.voters=1@127.0.0.1:$((port + 1))" \
    controller.listener.names=CONTROLLER "listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))" \
    "log.dirs=$folder/data" offsets.topic.replication.factor=1 transaction.state.log.replication.factor=1 \
    transaction.state.log.min.isr=1 share.coordinator.state.topic.replication.factor=1 share.coordinator.state.topic.min.isr=1 \
    group.initial.rebalance.delay.ms=0 "$@" >"$folder/server.properties"
  local java=(-Dlog4j2.configurationFile="$place/log4j2.properties" -cp "$place/lib/*")
  if [ ! -e "$folder/data/meta.properties" ]; then
    java -Xmx128m -XX:TieredStopAtLevel=1 "${java[@]}" kafka.tools.StorageTool format -c "$folder/server.properties" \
      -t "$(head -c16 /dev/urandom | base64 | tr '+/' 'AB' | tr -d '=')" >&2
  fi
  # The collector as the distribution's own scripts set it.
  exec java -server -Xms256m -Xmx1g -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 \
    -XX:+ExplicitGCInvokesConcurrent "${java[@]}" kafka.Kafka "$folder/server.properties"
}

case ${1:-} in
  server)
    shift
    server "$@"
    ;;
  topics) class=org.apache.kafka.tools.TopicCommand ;;
  configs) class=kafka.admin.ConfigCommand ;;
  get-offsets) class=org.apache.kafka.tools.GetOffsetShell ;;
  delete-records) class=org.apache.kafka.tools.DeleteRecordsCommand ;;
  consumer-groups) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
  console-producer) class=org.apache.kafka.tools.ConsoleProducer ;;
  console-consumer) class=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
  producer-perf) class=org.apache.kafka.tools.ProducerPerformance ;;
  consumer-perf) class=org.apache.kafka.tools.ConsumerPerformance ;;
  verifiable-producer) class=org.apache.kafka.tools.VerifiableProducer ;;
  verifiable-consumer) class=org.apache.kafka.tools.VerifiableConsumer ;;
  broker-api-versions) class=org.apache.kafka.tools.BrokerApiVersionsCommand ;;
  cluster) class=org.apache.kafka.tools.ClusterTool ;;
  transactions) class=org.apache.kafka.tools.TransactionsCommand ;;
  log-dirs) class=org.apache.kafka.tools.LogDirsCommand ;;
  *) echo "unknown tool ${1:-}" >&2; exit 2 ;;
esac
shift
# Tools live for a second: what takes long to compile would not pay.
# shellcheck disable=SC2086
exec java ${AQUEDUCT_KAFKA_JAVA:--Xmx512m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC} -Dlog4j2.configurationFile="$place/log4j2.properties" \
  -cp "$place/lib/*" "$class" "$@"
