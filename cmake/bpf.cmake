# add_probe(process): bpf/process.bpf.c -> BPF object -> process.skel.h, used by linking culprit_probe_process.
find_program(BPF_CLANG NAMES clang-19 clang REQUIRED)
# Ubuntu's /usr/sbin/bpftool only passes on to that of the running kernel, which a container has not: any that runs will do.
function(bpftool_runs result candidate)
  execute_process(COMMAND ${candidate} version RESULT_VARIABLE code OUTPUT_QUIET ERROR_QUIET)
  if(NOT code EQUAL 0)
    set(${result} FALSE PARENT_SCOPE)
  endif()
endfunction()
file(GLOB bpftool_folders LIST_DIRECTORIES TRUE /usr/lib/linux-tools/* /usr/lib/linux-tools-*)
find_program(BPFTOOL bpftool HINTS /usr/sbin PATHS ${bpftool_folders} VALIDATOR bpftool_runs REQUIRED)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(BPF_ARCH arm64)
else()
  set(BPF_ARCH x86)
endif()

function(add_probe family)
  set(source ${CMAKE_CURRENT_SOURCE_DIR}/${family}.bpf.c)
  set(object ${CMAKE_CURRENT_BINARY_DIR}/${family}.bpf.o)
  set(skeleton ${CMAKE_CURRENT_BINARY_DIR}/skel/${family}.skel.h)
  add_custom_command(OUTPUT ${object}
    COMMAND ${BPF_CLANG} -target bpf -mcpu=v3 -g -O2 -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter
            -D__TARGET_ARCH_${BPF_ARCH} -I${CMAKE_SOURCE_DIR}/bpf/include -fdebug-prefix-map=${CMAKE_SOURCE_DIR}=.
            -MD -MF ${object}.d -c ${source} -o ${object}
    DEPENDS ${source} DEPFILE ${object}.d VERBATIM COMMENT "BPF object ${family}")
  add_custom_command(OUTPUT ${skeleton}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_CURRENT_BINARY_DIR}/skel
    COMMAND ${BPFTOOL} gen skeleton ${object} name ${family}_probe > ${skeleton}
    DEPENDS ${object} VERBATIM COMMENT "BPF skeleton ${family}")
  add_custom_target(culprit_probe_${family}_skeleton DEPENDS ${skeleton})
  add_library(culprit_probe_${family} INTERFACE)
  add_dependencies(culprit_probe_${family} culprit_probe_${family}_skeleton)
  # SYSTEM: bpftool's generated code does not meet our warnings.
  target_include_directories(culprit_probe_${family} SYSTEM INTERFACE ${CMAKE_CURRENT_BINARY_DIR}/skel)
  target_link_libraries(culprit_probe_${family} INTERFACE culprit_libbpf)
endfunction()
